/** Alters bytes that a server has received. The server's tags match the altered bytes. */

export const ALTERATIONS = {
  'flips a bit': (body: Buffer) => {
    const altered = Buffer.from(body);
    altered.writeUInt8(altered.readUInt8(altered.length - 1) ^ 1, altered.length - 1);
    return altered;
  },
  shortens: (body: Buffer) => Buffer.from(body.subarray(0, -1)),
  'garbles the end': (body: Buffer) => Buffer.concat([body.subarray(0, -512), Buffer.alloc(512, 0x5a)]),
} satisfies Record<string, (body: Buffer) => Buffer>;

export type Alteration = keyof typeof ALTERATIONS;
