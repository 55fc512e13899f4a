import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';
import { type Clock, systemClock } from '../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../src/common/errors.ts';
import { directoryError } from '../../../../src/stores/directory/directory-files.ts';
import { DirectoryLock } from '../../../../src/stores/directory/directory-lock.ts';
import { createDirectoryStore } from '../../../../src/stores/directory/directory-store.ts';
import { changed } from '../../../fixtures/request-table.ts';
import { useTempDir } from '../../../helpers/temp-dir.ts';

const LOST = { code: 'ExecutorLost' };

/** Another process that takes the lock and keeps it. */
async function otherHolder(directory: string): Promise<ChildProcess> {
  const lines = [
    `import { DirectoryLock } from '${path.resolve('src/stores/directory/directory-lock.ts')}';`,
    `import { systemClock } from '${path.resolve('src/common/clock.ts')}';`,
    `const lost = await new DirectoryLock(${JSON.stringify(directory)}, systemClock).acquire();`,
    'console.log(lost === undefined ? "refused" : "held");',
  ];
  const child = spawn(process.execPath, ['--input-type=module', '-e', lines.join('\n')], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [output] = await once(child.stdout as NodeJS.ReadableStream, 'data');
  assert.equal(String(output).trim(), 'held');
  return child;
}

/** The time is moved by hand; a wait takes real time. */
class HandClock implements Clock {
  nowAt = 0;
  readonly nowMs = systemClock.nowMs;
  readonly delay = systemClock.delay;
  readonly monotonicMs = (): number => this.nowAt;
}

describe('directory lock', () => {
  const inTemp = useTempDir();
  const locks: DirectoryLock[] = [];
  let directory: string;
  let clock: HandClock;

  beforeEach(() => {
    directory = inTemp('requests');
    mkdirSync(directory);
    clock = new HandClock();
  });

  afterEach(async () => {
    for (const lock of locks.splice(0)) await lock.release();
  });

  function newLock(): DirectoryLock {
    const lock = new DirectoryLock(directory, clock);
    locks.push(lock);
    return lock;
  }

  it('is had by one, and by the next when that one gives it back', async () => {
    const [one, two] = [newLock(), newLock()];
    const lost = await one.acquire();
    assert.equal(lost?.aborted, false);
    assert.equal(await one.acquire(), lost, 'who has it, has it');
    assert.equal(await two.acquire(), undefined);
    await one.assertHeld();
    await assert.rejects(two.assertHeld(), LOST);
    await one.release();
    assert.equal(lost?.aborted, true);
    assert.deepEqual(readdirSync(directory), []);
    assert.notEqual(await two.acquire(), undefined);
  });

  it('is had by one of many that ask at once', async () => {
    for (let round = 0; round < 20; round += 1) {
      const all = Array.from({ length: 8 }, newLock);
      const held = (await Promise.all(all.map((lock) => lock.acquire()))).filter(Boolean);
      assert.ok(held.length <= 1);
      for (const lock of all) await lock.release();
    }
  });

  it('is taken over at once from a process that was killed, and not from one that lives', async () => {
    const holder = await otherHolder(directory);
    const lock = newLock();
    assert.equal(await lock.acquire(), undefined);
    clock.nowAt += 3_600_000;
    assert.equal(await lock.acquire(), undefined, 'it lives, as everybody here can see');
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    assert.notEqual(await lock.acquire(), undefined);
    await lock.assertHeld();
    assert.deepEqual(readdirSync(directory), ['.disklift-2.lock']);
  });

  it('is taken over from a process that cannot be seen only when it has shown no life for 20 s', async () => {
    const content = { nonce: 'n', pid: process.pid, startTicks: '1', pidNamespace: 'pid:[elsewhere]' };
    const file = path.join(directory, '.disklift-7.lock');
    writeFileSync(file, JSON.stringify(content));
    const lock = newLock();
    assert.equal(await lock.acquire(), undefined);
    clock.nowAt += 19_000;
    assert.equal(await lock.acquire(), undefined);
    await delay(5);
    writeFileSync(file, JSON.stringify(content));
    clock.nowAt += 2000;
    assert.equal(await lock.acquire(), undefined, 'it has shown life');
    clock.nowAt += 20_000;
    assert.notEqual(await lock.acquire(), undefined);
  });

  it('waits for a lock that is being written as for one whose holder cannot be seen', async () => {
    writeFileSync(path.join(directory, '.disklift-1.lock'), '');
    const lock = newLock();
    assert.equal(await lock.acquire(), undefined);
    clock.nowAt += 20_000;
    assert.notEqual(await lock.acquire(), undefined);
  });

  for (const [what, harm] of [
    ['another has taken it over', () => writeFileSync(path.join(directory, '.disklift-2.lock'), '{}')],
    ['its file is another', () => writeFileSync(path.join(directory, '.disklift-1.lock'), '{"nonce": "other"}')],
    ['its file is gone', () => rmSync(path.join(directory, '.disklift-1.lock'))],
    ['the directory is gone', () => rmSync(directory, { recursive: true })],
  ] as const)
    it(`is lost when ${what}, which is noticed before anything irreversible`, async () => {
      const lock = newLock();
      const lost = await lock.acquire();
      harm();
      await assert.rejects(lock.assertHeld(), LOST);
      assert.equal(lost?.reason.code, 'ExecutorLost');
      await assert.rejects(lock.assertHeld(), LOST);
    });

  it('shows that its holder lives, and is missed by it without being asked for', async () => {
    const hurried: Clock = { ...systemClock, delay: (delayMs, signal) => systemClock.delay(delayMs / 200, signal) };
    const lock = new DirectoryLock(directory, hurried);
    locks.push(lock);
    const lost = (await lock.acquire()) as AbortSignal;
    const file = path.join(directory, '.disklift-1.lock');
    const before = statSync(file).mtimeMs;
    while (statSync(file).mtimeMs === before) await delay(5);
    assert.equal(lost.aborted, false);
    writeFileSync(path.join(directory, '.disklift-2.lock'), '{}');
    await once(lost, 'abort');
    assert.equal(lost.reason.code, 'ExecutorLost');
  });

  it('can be acquired again by the process that lost it with the directory', async () => {
    const lock = newLock();
    await lock.acquire();
    rmSync(directory, { recursive: true });
    await assert.rejects(lock.assertHeld(), LOST);
    await assert.rejects(lock.acquire(), { code: 'StoreUnavailable', message: /cannot be written to \(ENOENT\)/ });
    mkdirSync(directory);
    assert.notEqual(await lock.acquire(), undefined);
  });

  it('distinguishes a directory that cannot be written to from one that another process holds', async () => {
    // No user can create a file there, not even root.
    const lock = new DirectoryLock('/sys/kernel', systemClock);
    await assert.rejects(lock.acquire(), {
      code: 'StoreRefused',
      message: /^\/sys\/kernel: cannot be written to \(E[A-Z]+\): this user may not; /,
    });
    const errors: [string, string, RegExp][] = [
      ['EROFS', 'StoreRefused', /^\/d: cannot be written to \(EROFS\): it is mounted read-only; mount it writable/],
      ['EACCES', 'StoreRefused', /this user may not; give the directory/],
      ['ENOSPC', 'StoreUnavailable', /its file system is full; make room$/],
      ['EIO', 'StoreUnavailable', /\(EIO\): look at its storage$/],
    ];
    for (const [errno, code, message] of errors) {
      const error = directoryError('/d', Object.assign(new Error(errno), { code: errno }));
      assert.ok(error instanceof DiskliftError && error.retryable, errno);
      assert.equal(error.code, code);
      assert.match(error.message, message);
    }
    const mistake = new TypeError('oops');
    assert.equal(directoryError('/d', mistake), mistake);
  });

  it('is reported by the store while no process can hold the lock', async () => {
    writeFileSync(path.join(directory, 'a.yaml'), stringify(changed({ 'metadata.name': 'a' })));
    const warnings: string[] = [];
    const warn = (message: string) => void warnings.push(message);
    const store = createDirectoryStore({ directory, clock: systemClock, warn, pollMs: 30, settleMs: 50 });
    const end = new AbortController();
    const iterator = store.watch(end.signal)[Symbol.asyncIterator]();
    await iterator.next();
    // A directory at the lock's path: the lock can be neither read nor created.
    mkdirSync(path.join(directory, '.disklift-1.lock'));
    for (let round = 0; round < 2; round += 1) await assert.rejects(store.claim('default/a'), { code: 'StoreUnavailable' });
    await assert.rejects(store.writeStatus('default/a', {}), { code: 'StoreUnavailable' });
    assert.match(store.problem() ?? '', /: cannot be written to \(EISDIR\): look at its storage$/);
    assert.deepEqual(warnings, [store.problem()]);
    rmSync(path.join(directory, '.disklift-1.lock'), { recursive: true });
    const claim = await store.claim('default/a');
    assert.notEqual(claim, undefined);
    assert.equal(store.problem(), undefined);
    await claim?.release();
    end.abort(new DiskliftError('Cancelled', 'done'));
    await iterator.return?.();
  });

  it('keeps a second store from working on the same requests, until the first has ended', async () => {
    writeFileSync(path.join(directory, 'a.yaml'), stringify(changed({ 'metadata.name': 'a' })));
    const start = () => {
      const end = new AbortController();
      const keys: string[] = [];
      const warnings: string[] = [];
      const warn = (message: string) => void warnings.push(message);
      const store = createDirectoryStore({ directory, clock: systemClock, warn, pollMs: 30, settleMs: 50 });
      const ended = (async () => {
        for await (const key of store.watch(end.signal)) keys.push(key);
      })();
      const stop = () => {
        end.abort(new DiskliftError('Cancelled', 'done'));
        return ended;
      };
      return { store, keys, warnings, stop };
    };
    const [first, second] = [start(), start()];
    while (first.keys.length === 0 || second.keys.length === 0) await delay(10);
    const claim = await first.store.claim('default/a');
    assert.notEqual(claim, undefined);
    assert.equal(await first.store.claim('default/a'), undefined, 'a claim is for one');
    assert.equal(await second.store.claim('default/a'), undefined);
    assert.equal(first.store.problem(), undefined);
    assert.match(second.store.problem() ?? '', /: another process \(pid \d+\) serves it; requests wait here until that process ends$/);
    assert.deepEqual(second.warnings, [second.store.problem()], 'it is said once');
    await assert.rejects(second.store.writeStatus('default/a', {}), LOST);
    await claim?.assertHeld();
    await first.store.writeStatus('default/a', { message: 'by the first' });
    await first.stop();
    await claim?.assertHeld();
    await claim?.release();
    await assert.rejects(claim?.assertHeld() ?? Promise.resolve(), LOST);
    while (second.keys.length === 1) await delay(10);
    assert.deepEqual(second.keys, ['default/a', 'default/a'], 'it is told that the request can be had');
    const claimed = await second.store.claim('default/a');
    assert.notEqual(claimed, undefined);
    assert.equal(second.store.problem(), undefined);
    assert.partialDeepStrictEqual(await second.store.get('default/a'), { request: { status: { message: 'by the first' } } });
    await claimed?.release();
    await second.stop();
    assert.deepEqual(
      readdirSync(directory).filter((name) => name.endsWith('.lock')),
      [],
    );
  });
});
