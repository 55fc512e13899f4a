/**
 * Files that a command reads before it starts may lie on storage that does not answer. The command ends with a message
 * then.
 */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { type ReceiveFlags, receiveImage } from '../../../src/cli/actions/receive-image.ts';
import { startSidecar } from '../../../src/cli/commands/sidecar.ts';
import { STORAGE_LIMIT_MS } from '../../../src/common/await-storage.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { createLimiter } from '../../../src/common/limiter.ts';
import { authorizeByFile } from '../../../src/server/require-token.ts';
import { startServer } from '../../../src/server/start-server.ts';
import { readRequestFile } from '../../../src/stores/directory/read-manifests.ts';
import type { CommandContext } from '../../../src/wiring/context.ts';
import { openApiAccess } from '../../../src/wiring/open-api-access.ts';
import { useFileSystem } from '../../helpers/file-system.ts';
import { NEVER } from '../../helpers/image-in-process.ts';
import { createManualClock, type ManualClock } from '../../helpers/manual-clock.ts';
import { runCommand } from '../../helpers/run-command.ts';
import { silentFile } from '../../helpers/silent-places.ts';
import { stopProcess } from '../../helpers/stop-process.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';

describe('a file that a command needs', () => {
  const temp = useTempDir();

  let clock: ManualClock;
  let context: CommandContext;
  beforeEach(() => {
    clock = createManualClock();
    context = { libc: undefined, readLimit: createLimiter(1), clock, signal: NEVER, warn: assert.fail };
    writeFileSync(temp('good'), '');
  });

  const receive = (flags: Partial<ReceiveFlags>) =>
    receiveImage({ listen: { port: 0 }, output: temp('out'), protocol: 'raw', force: false, keep: false, ...flags }, context);

  /** Moves the clock when the file is waited for. */
  async function assertLate(read: Promise<unknown>, file: string, reached: Promise<void>): Promise<void> {
    const late = assert.rejects(read, {
      code: 'InvalidRequest',
      message: new RegExp(`\\b${file.slice(1)}\\b.*: its storage has not answered for 30 s; look at the mount, or name a file elsewhere$`),
    });
    await reached;
    await clock.untilWaiting(STORAGE_LIMIT_MS);
    await clock.advance(STORAGE_LIMIT_MS);
    await late;
  }

  const reads: [string, (file: string) => Promise<unknown>][] = [
    ['the certificate of receive', (file) => receive({ tlsCert: file, tlsKey: temp('good') })],
    ['the key of receive', (file) => receive({ tlsCert: temp('good'), tlsKey: file })],
    ['the client authority of receive', (file) => receive({ tlsCert: temp('good'), tlsKey: temp('good'), tlsClientCa: file })],
    ['the settings of the sidecar', (file) => startSidecar({ config: file }, context)],
    ['the kubeconfig', (file) => openApiAccess(file, context)],
    ['the token of the pages', (file) => authorizeByFile(file, context)],
    [
      'the certificate of the pages',
      (file) => {
        const tls = { certificateFile: file, keyFile: temp('good') };
        return startServer(() => {}, { host: '127.0.0.1', port: 0, tls, clock, warn: assert.fail });
      },
    ],
  ];

  describe('and whose storage does not answer ends it after half a minute with a message', () => {
    for (const [what, read] of reads)
      it(what, async () => {
        await using silent = silentFile(temp('silent'));
        await assertLate(read(silent.place), silent.place, silent.reached);
      });
  });

  it('may be a pipe whose writer takes its time, for a manifest', async () => {
    await using silent = silentFile(temp('silent'));
    const reading = readRequestFile(silent.place, { ...context, warn: assert.fail });
    await silent.reached;
    await silent[Symbol.asyncDispose]();
    await assert.rejects(reading, { code: 'InvalidRequest', message: `${silent.place}: has no DiskExport` });
  });

  it('is read once, however many requests for pages wait for the token', async () => {
    writeFileSync(temp('token'), 'first-token');
    const authorize = await authorizeByFile(temp('token'), { clock, signal: NEVER });
    assert.equal(await authorize('first-token', 'metrics'), 'allowed');
    assert.equal((await runCommand('rm', [temp('token')])).code, 0);
    await using silent = silentFile(temp('token'));
    // More than libuv has threads for: each that hangs would take one.
    const verdicts = Array.from({ length: 20 }, () => authorize('first-token', 'metrics'));
    await clock.untilWaiting(4000);
    await silent.reached;
    await clock.advance(4000);
    assert.deepEqual(new Set(await Promise.all(verdicts)), new Set(['unavailable']));
    const { readFile } = await import('node:fs/promises');
    await readFile(import.meta.filename);
  });

  describe('on a mount whose server stands still', () => {
    const { mounted, origin } = useFileSystem('sshfs');
    let daemonId: number;

    beforeEach(async () => {
      for (const name of ['a', 'b']) writeFileSync(origin(name), '');
      const { stdout } = await runCommand('pgrep', ['-f', `sshfs .* ${path.dirname(mounted('x'))}$`]);
      daemonId = Number(stdout.toString().trim());
      await stopProcess(daemonId);
    });
    afterEach(() => {
      process.kill(daemonId, 'SIGCONT');
    });

    for (const [name, what, read] of [
      ['a', 'the manifest of export', (file: string) => readRequestFile(file, { ...context, warn: assert.fail })],
      ['b', 'the output of receive', (output: string) => receive({ output })],
    ] as const)
      it(`ends it after half a minute with a message: ${what}`, async () => {
        await assertLate(read(mounted(name)), mounted(name), Promise.resolve());
      });
  });

  it('ends it at once when it is cancelled', async () => {
    await using silent = silentFile(temp('silent'));
    const cancel = new AbortController();
    const waits = { clock: systemClock, signal: cancel.signal };
    const all = [
      openApiAccess(silent.place, waits),
      authorizeByFile(silent.place, waits),
      readRequestFile(silent.place, { ...waits, warn: assert.fail }),
    ];
    await silent.reached;
    cancel.abort(new Error('by the test'));
    for (const each of all) await assert.rejects(each, { code: 'Cancelled' });
  });
});
