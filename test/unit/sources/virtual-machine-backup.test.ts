/** Export servers with wrong, incomplete or missing answers, which the real one gives only by chance. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { TrackedSource } from '../../../src/sources/changed/contract.ts';
import type { SourceIdentity } from '../../../src/sources/contract.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { openVolume } from '../../helpers/kubevirt-backup/open-volume.ts';
import { createTestAuthority, type TestAuthority } from '../../helpers/test-authority.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = 4 * MIB;

type Extent = readonly [offset: number, length: number, type: number, description: string];

interface Scene {
  /** The map, from the offset that is asked for. */
  extents: readonly Extent[];
  sizeBytes: number;
  isIncremental: boolean;
  pageExtents: number;
  /** Answers in place of the scene; true when it has. */
  answer: (request: IncomingMessage, response: ServerResponse, asked: URLSearchParams) => boolean;
  silenceMs: number;
  identify: () => Promise<SourceIdentity>;
}

function answered(response: ServerResponse, body: string | Buffer): true {
  response.end(body);
  return true;
}

const WHOLE: Extent = [0, SIZE_BYTES, 0, 'data'];

describe('a volume of a VirtualMachineBackup', () => {
  let directory: string;
  let authority: TestAuthority;
  let certificate: Awaited<ReturnType<TestAuthority['issue']>>;

  before(async () => {
    directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-test-'));
    authority = await createTestAuthority(directory);
    certificate = await authority.issue('virt-export', 'DNS:localhost');
  });

  after(() => rmSync(directory, { recursive: true }));

  function serve(scene: Scene, request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '', 'https://localhost');
    if (scene.answer(request, response, url.searchParams)) return;
    const offset = Number(url.searchParams.get('offset') ?? 0);
    const length = Number(url.searchParams.get('length') ?? 0);
    const end = length === 0 ? scene.sizeBytes : Math.min(offset + length, scene.sizeBytes);
    if (offset >= scene.sizeBytes) return void response.destroy();
    if (url.pathname.endsWith('/data')) return void response.end(Buffer.alloc(end - offset, 1));
    const found = scene.extents.flatMap(([start, bytes, type, description]) => {
      const from = Math.max(start, offset);
      const to = start + bytes > scene.sizeBytes ? start + bytes : Math.min(start + bytes, end);
      return to > from ? [{ offset: from, length: to - from, type, description }] : [];
    });
    const page = found.slice(0, scene.pageExtents);
    response.end(JSON.stringify({ extents: page.length === 0 ? null : page, next_offset: found[page.length]?.offset ?? null }));
  }

  async function withVolume<T>(
    facts: Partial<Scene>,
    use: (open: (signal?: AbortSignal) => Promise<TrackedSource>) => Promise<T>,
  ): Promise<T> {
    const scene: Scene = {
      ...{ extents: [WHOLE], sizeBytes: SIZE_BYTES, isIncremental: false, pageExtents: 1000, answer: () => false, silenceMs: 2000 },
      identify: async () => ({ backup: 'uid' }),
      ...facts,
    };
    const server = https.createServer({ cert: certificate.certificate, key: certificate.key }, (request, response) => {
      assert.equal(request.headers['x-kubevirt-export-token'], 'secret-token');
      serve(scene, request, response);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const url = (volume: string, endpoint: string) => new URL(`https://localhost:${port}/exports/${volume}/${endpoint}`);
    const opened: TrackedSource[] = [];
    const { isIncremental, silenceMs, identify } = scene;
    try {
      return await use(async (signal = NEVER) => {
        const access = { ca: authority.ca, token: 'secret-token', url };
        const source = await openVolume({ server: access, volume: 'rootdisk', isIncremental, silenceMs, identify, signal });
        opened.push(source);
        return source;
      });
    } finally {
      for (const source of opened) await source.dispose();
      server.closeAllConnections();
      server.close();
    }
  }

  async function mapOf(facts: Partial<Scene>): Promise<[number, number, string][]> {
    return withVolume(facts, async (open) => {
      const source = await open();
      const found: [number, number, string][] = [];
      if (source.changed === undefined)
        for await (const { offset, length, kind } of source.extents(NEVER)) found.push([offset, length, kind]);
      else
        for await (const { offset, length, kind, isChanged } of source.changed.extents(NEVER))
          found.push([offset, length, `${isChanged ? 'changed' : 'unchanged'} ${kind}`]);
      return found;
    });
  }

  /** Extents of 64 KiB, in turn. */
  const inTurn = (...kinds: readonly (readonly [type: number, description: string])[]): Extent[] =>
    Array.from({ length: SIZE_BYTES / 65_536 }, (_, index) => {
      const [type, description] = kinds[index % kinds.length] as readonly [number, string];
      return [index * 65_536, 65_536, type, description];
    });
  const firstOf = (map: readonly [number, number, string][], count: number) => map.slice(0, count).map(([, , what]) => what);

  describe('has a map that', () => {
    it('shows the zeros of a full backup by its flag', async () => {
      const extents = inTurn([0, 'data'], [1, 'hole'], [2, 'zero'], [3, 'hole,zero'], [6, 'unknown']);
      assert.deepEqual(firstOf(await mapOf({ extents }), 3), ['data', 'zeros', 'data']);
    });

    it('has changes of an incremental backup of KubeVirt 1.8, which knows no zeros', async () => {
      const map = await mapOf({ isIncremental: true, extents: inTurn([0, 'clean'], [1, 'dirty']) });
      assert.deepEqual(firstOf(map, 2), ['unchanged data', 'changed data']);
    });

    it('has changes and zeros of an incremental backup of KubeVirt 1.9', async () => {
      const extents = inTurn([0, 'clean'], [1, 'dirty'], [2, 'zero'], [3, 'dirty,zero']);
      const wanted = ['unchanged data', 'changed data', 'unchanged zeros', 'changed zeros'];
      assert.deepEqual(firstOf(await mapOf({ isIncremental: true, extents }), 4), wanted);
    });

    it('is changed where no vocabulary explains an extent', async () => {
      const extents = inTurn([0, 'unknown'], [4, 'clean'], [1, 'clean'], [0, ''], [0, 'dirty']);
      const map = await mapOf({ isIncremental: true, extents });
      assert.deepEqual([...new Set(firstOf(map, map.length))], ['changed data']);
    });

    it('has changed zeros where only zeros are in the map, which may be one of allocation', async () => {
      const map = await mapOf({ isIncremental: true, extents: [[0, SIZE_BYTES, 2, 'zero']] });
      assert.deepEqual(map, [[0, SIZE_BYTES, 'changed zeros']]);
    });

    it('comes page by page', async () => {
      const map = await mapOf({ isIncremental: true, extents: inTurn([0, 'clean'], [1, 'dirty']), pageExtents: 7 });
      assert.equal(map.length, SIZE_BYTES / 65_536);
    });
  });

  const refused = (facts: Partial<Scene>, message: RegExp, more: object = {}) =>
    assert.rejects(mapOf(facts), { code: 'SourceReadError', message, ...more });

  describe('refuses', () => {
    it('a map of allocation of an incremental backup: its 0 is data, and reads like "unchanged"', () =>
      refused({ isIncremental: true }, /rootdisk: .*map of allocation \("data" at offset 0\)/, {
        code: 'ChangesRefused',
        retryable: false,
      }));

    it('a map that has a gap also in the smallest slices', () =>
      refused(
        {
          extents: [
            [0, MIB, 0, 'data'],
            [2 * MIB, 2 * MIB, 0, 'data'],
          ],
        },
        /at offset 1048576: it lacks the bytes .*; make another backup$/,
      ));

    it('a map that ends before the disk does', () =>
      refused({ extents: [[0, MIB, 0, 'data']] }, /the map ends at offset 1048576, and the disk does not/));

    it('a map that goes on behind the end of the disk', () =>
      refused({ extents: [[0, SIZE_BYTES + 512, 0, 'data']] }, /cannot read the byte at offset 4194815, where the map ends/));

    it('a map out of order', () =>
      refused(
        {
          extents: [
            [0, MIB, 0, 'data'],
            [0, SIZE_BYTES, 0, 'data'],
          ],
        },
        /out of order/,
      ));

    for (const [what, text] of Object.entries({
      'no JSON': '<html>',
      'no list': '{"extents":7}',
      'no objects': '{"extents":[7]}',
      'an offset above 2^53': `{"extents":[{"offset":9007199254740993,"length":1,"type":0,"description":"data"}]}`,
      'a negative length': '{"extents":[{"offset":0,"length":-1,"type":0,"description":"data"}]}',
    }))
      it(`an answer that has ${what}`, () =>
        refused({ answer: (_, response) => answered(response, text) }, /rootdisk: .*the answer with the map cannot be read/));

    it('a map without end', () => refused({ answer: (_, response) => endless(response) }, /more than 16777216 bytes/));

    for (const [status, code] of [
      [401, 'SourcePermissionDenied'],
      [403, 'SourcePermissionDenied'],
      [404, 'SourceNotFound'],
      [206, 'SourceReadError'],
      [302, 'SourceReadError'],
    ] as const)
      it(`the answer ${status}, at once and without the server's words`, () => {
        let count = 0;
        const answer: Scene['answer'] = (_, response) => {
          count += 1;
          response.writeHead(status, { location: '/elsewhere' }).end('secret words');
          return true;
        };
        return assert.rejects(mapOf({ answer }), (error: Error & { code?: string }) => {
          assert.equal(error.code, code);
          assert.doesNotMatch(error.message, /secret/);
          assert.equal(count, 1);
          return true;
        });
      });
  });

  function endless(response: ServerResponse): boolean {
    const more = () => {
      if (!response.destroyed) response.write(Buffer.alloc(MIB, 32), () => setImmediate(more));
    };
    response.on('error', () => {});
    more();
    return true;
  }

  const isData = (request: IncomingMessage) => request.url?.includes('/data') ?? false;

  describe('counts the bytes of a range', () => {
    for (const [what, bytes] of [
      ['fewer', 1000],
      ['more', 5000],
    ] as const)
      it(`and fails for ${what}, though the answer ends in order`, () =>
        withVolume(
          {
            answer: (request, response, asked) => isData(request) && asked.get('length') !== '2' && answered(response, Buffer.alloc(bytes)),
          },
          async (open) => {
            const source = await open();
            const message = what === 'more' ? /more bytes than that/ : /ended its answer after 1000 bytes/;
            await assert.rejects(source.read(Buffer.alloc(4096), 0, NEVER), { code: 'SourceReadError', message, retryable: true });
          },
        ));

    it('and reads nothing for an empty buffer: a length of 0 would be the whole disk', () =>
      withVolume({}, async (open) => {
        const source = await open();
        await source.read(Buffer.alloc(0), 0, NEVER);
      }));
  });

  describe('does not wait for ever', () => {
    const silent: Scene['answer'] = () => true;

    it('for a server that does not answer', () => refused({ answer: silent, silenceMs: 50 }, /no answer/));

    it('for a server that falls silent within an answer', () =>
      refused({ answer: (_, response) => response.write('{"extents":'), silenceMs: 50 }, /no answer/));

    it('when it is cancelled while it is opened', () =>
      withVolume({ answer: silent }, async (open) => {
        const aborted = new AbortController();
        const opening = open(aborted.signal);
        setTimeout(() => aborted.abort(), 50);
        await assert.rejects(opening, { code: 'Cancelled' });
      }));

    it('when it is cancelled within a read', () =>
      withVolume({ answer: (request, _, asked) => isData(request) && asked.get('length') !== '2' }, async (open) => {
        const source = await open();
        const aborted = new AbortController();
        const reading = source.read(Buffer.alloc(4096), 0, aborted.signal);
        setTimeout(() => aborted.abort(), 50);
        await assert.rejects(reading, { code: 'Cancelled' });
      }));
  });

  describe('has an identity', () => {
    it('that covers the map of changes, and the backup itself', () => {
      const extents = inTurn([0, 'clean'], [1, 'dirty']);
      const facts = { isIncremental: true, extents, uid: 'one' };
      return withVolume({ ...facts, identify: async () => ({ backup: facts.uid }) }, async (open) => {
        const source = await open();
        const before = await source.identity();
        assert.deepEqual(await source.identity(), before);
        extents[1] = [65_536, 65_536, 0, 'clean'];
        const changed = await source.identity();
        assert.notEqual(changed.changes, before.changes);
        facts.uid = 'two';
        assert.equal((await source.identity()).backup, 'two');
      });
    });

    it('that fails with the backup, and when the source is closed meanwhile', () => {
      const failure = new Error('the backup is over');
      return withVolume({ identify: () => Promise.reject(failure) }, async (open) => {
        const source = await open();
        await assert.rejects(source.identity(), failure);
      });
    });
  });
});
