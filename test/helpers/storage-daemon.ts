/** A disk as a VM has it: a qcow2 image that qemu-storage-daemon has open, with dirty bitmaps and NBD exports. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import net, { type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { hasEnded } from './has-ended.ts';
import { runCommand } from './run-command.ts';

const NODE = 'disk';

interface Message {
  return?: unknown;
  error?: { desc: string };
  event?: string;
  data?: { id?: string };
}

async function connected(socketPath: string, child: ChildProcess, output: () => string): Promise<Socket> {
  for (;;) {
    const socket = net.connect(socketPath);
    try {
      await once(socket, 'connect');
      return socket;
    } catch {
      socket.destroy();
    }
    assert.ok(!hasEnded(child), output());
    await delay(5);
  }
}

export interface StorageDaemon extends AsyncDisposable {
  /** Runs a command of QMP. */
  command(name: string, parameters?: object): Promise<unknown>;
  /** Adds an enabled bitmap, which is stored in the image. */
  addBitmap(name: string, granularityBytes: number): Promise<void>;
  /**
   * Moves what a bitmap shows into another one, which does not change any more, and clears the first one at the same
   * point in time.
   */
  freezeBitmap(name: string, frozen: string, granularityBytes: number): Promise<void>;
  removeBitmap(name: string): Promise<void>;
  resize(sizeBytes: number): Promise<void>;
  /** Runs commands of qemu-io as a guest that discards. */
  guest(commands: readonly string[]): Promise<void>;
  /** Exports the disk for reading, with a bitmap, while `use` runs. */
  exported<T>(bitmap: string | undefined, use: (uri: string) => Promise<T>): Promise<T>;
  /** Ends in order, so that bitmaps are stored. */
  quit(): Promise<void>;
}

/** @param image the file of the disk, and its format; QEMU stores bitmaps only in qcow2 */
export async function startStorageDaemon(image: { path: string; format: string }, directory: string): Promise<StorageDaemon> {
  const [qmpPath, nbdPath] = [`${directory}/qmp.sock`, `${directory}/disk.sock`];
  const file = { driver: 'file', filename: image.path, discard: 'unmap' };
  const args = [
    ...['--chardev', `socket,id=qmp,path=${qmpPath},server=on,wait=off`, '--monitor', 'chardev=qmp'],
    ...['--blockdev', JSON.stringify({ driver: image.format, 'node-name': NODE, discard: 'unmap', file })],
    ...['--nbd-server', `addr.type=unix,addr.path=${nbdPath},max-connections=4`],
  ];
  const child = spawn('qemu-storage-daemon', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  child.stderr.on('data', (bytes: Buffer) => {
    output += bytes;
  });
  const ended = once(child, 'close');
  const socket = await connected(qmpPath, child, () => output);
  const lines = createInterface(socket)[Symbol.asyncIterator]();
  const deleted = new Set<string>();

  async function receive(): Promise<Message> {
    const line = await lines.next();
    assert.ok(line.done !== true, `qemu-storage-daemon has ended: ${output}`);
    const message = JSON.parse(line.value) as Message;
    if (message.event === 'BLOCK_EXPORT_DELETED') deleted.add(message.data?.id ?? '');
    return message;
  }

  async function command(name: string, parameters: object = {}): Promise<unknown> {
    socket.write(`${JSON.stringify({ execute: name, arguments: parameters })}\n`);
    for (;;) {
      const message = await receive();
      if (message.event !== undefined) continue;
      assert.equal(message.error, undefined, `${name} ${JSON.stringify(parameters)}: ${message.error?.desc}`);
      return message.return;
    }
  }

  let exportCount = 0;
  async function withExport<T>(facts: object, use: (uri: string) => Promise<T>): Promise<T> {
    exportCount += 1;
    const id = `e${exportCount}`;
    await command('block-export-add', { type: 'nbd', id, 'node-name': NODE, name: id, ...facts });
    try {
      return await use(`nbd+unix:///${id}?socket=${nbdPath}`);
    } finally {
      await command('block-export-del', { id });
      while (!deleted.has(id)) await receive();
    }
  }

  await receive();
  await command('qmp_capabilities');
  return {
    command,
    addBitmap: async (name, granularity) =>
      void (await command('block-dirty-bitmap-add', { node: NODE, name, granularity, persistent: image.format === 'qcow2' })),
    async freezeBitmap(name, frozen, granularity) {
      await command('transaction', {
        actions: [
          { type: 'block-dirty-bitmap-add', data: { node: NODE, name: frozen, granularity, disabled: true } },
          { type: 'block-dirty-bitmap-merge', data: { node: NODE, target: frozen, bitmaps: [name] } },
          { type: 'block-dirty-bitmap-clear', data: { node: NODE, name } },
        ],
      });
    },
    removeBitmap: async (name) => void (await command('block-dirty-bitmap-remove', { node: NODE, name })),
    resize: async (size) => void (await command('block_resize', { 'node-name': NODE, size })),
    guest: (commands) =>
      withExport({ writable: true }, async (uri) => {
        const parameters = ['-d', 'unmap', '-f', 'raw', ...commands.flatMap((text) => ['-c', text]), uri];
        const { code, stdout, stderr } = await runCommand('qemu-io', parameters);
        assert.equal(code, 0, `qemu-io ${parameters.join(' ')}: ${stdout}${stderr}`);
      }),
    exported: (bitmap, use) => withExport({ writable: false, ...(bitmap === undefined ? {} : { bitmaps: [bitmap] }) }, use),
    async quit() {
      await command('quit');
      await ended;
      socket.destroy();
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      socket.destroy();
      await ended;
    },
  };
}
