import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { containerRunIn, fateOf, type ProcessIdentity, thisProcess } from '../../../src/stores/process-identity.ts';

const POD = '6b3a2a0e-5d1f-4c3c-9a51-0d8f6f0f2a11';

const mount = (root: string, target: string) => `612 590 8:1 ${root} ${target} rw,relatime - ext4 /dev/sda1 rw`;
const terminationLog = (run: string, name = 'disklift', podUid = POD) =>
  mount(`/var/lib/kubelet/pods/${podUid}/containers/${name}/${run}`, '/dev/termination-log');

/** In the pid namespace of another container. */
const inContainer = (run: string, name?: string, podUid?: string): ProcessIdentity => ({
  ...{ pid: 1, startTicks: '77', pidNamespace: `pid:[${run}]`, bootId: 'boot' },
  container: containerRunIn(terminationLog(run, name, podUid)),
});

describe('the run of a container', () => {
  it('is read from the mount of the termination log', () => {
    const others = [
      mount('/', '/'),
      mount(`/var/lib/kubelet/pods/${POD}/etc-hosts`, '/etc/hosts'),
      mount(`/kubelet/pods/${POD}/volumes/x`, '/v'),
    ];
    assert.deepEqual(containerRunIn([...others, terminationLog('0a1b2c3d')].join('\n')), {
      podUid: POD,
      name: 'disklift',
      run: '0a1b2c3d',
    });
    // The kubelet's directory may be a file system of its own.
    assert.deepEqual(containerRunIn(mount(`/pods/${POD}/containers/c/1`, '/log')), { podUid: POD, name: 'c', run: '1' });
  });

  it('is unknown without such a mount, and where there are several', () => {
    assert.equal(containerRunIn(readFileSync('/proc/self/mountinfo', 'utf8')), undefined);
    assert.equal(containerRunIn(''), undefined);
    assert.equal(containerRunIn([terminationLog('1'), terminationLog('2')].join('\n')), undefined);
    assert.equal(containerRunIn(mount(`/pods/${POD}/containers/c`, '/c')), undefined);
  });
});

describe('the fate of a process', () => {
  it('is that it has ended where it belonged to an earlier run of this container', async () => {
    assert.equal(await fateOf(inContainer('1'), inContainer('2')), 'ended');
  });

  for (const [what, other] of [
    ['another container of the pod with the same settings', inContainer('1', 'copy')],
    ['a pod of the same name, as of a StatefulSet, or a copy for debugging', inContainer('1', 'disklift', POD.replace('6', '7'))],
    ['the same run of the container, seen in another pid namespace', { ...inContainer('2'), pidNamespace: 'pid:[9]' }],
    ['a process outside of containers', { ...inContainer('1'), container: undefined }],
    ['nobody', {}],
  ] as const)
    it(`is unknown of ${what}`, async () => {
      assert.equal(await fateOf(other, inContainer('2')), 'unknown');
      // By whom the same is asked outside of a container.
      assert.equal(await fateOf(other, { ...inContainer('2'), container: undefined }), 'unknown');
    });

  it('is what the kernel says in the same pid namespace, also of the same container', async () => {
    const own = { ...(await thisProcess()), container: inContainer('2').container };
    assert.match(own.bootId, /^[0-9a-f-]{36}$/);
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    await once(child, 'spawn');
    const stat = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(' ');
    const other = { ...own, pid: child.pid as number, startTicks: stat[21] as string, container: inContainer('1').container };
    assert.equal(await fateOf(other, own), 'running');
    child.kill('SIGSTOP');
    assert.equal(await fateOf(other, own), 'running');
    assert.equal(await fateOf({ ...other, startTicks: '1' }, own), 'ended');
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.equal(await fateOf(other, own), 'ended');
  });

  it('is unknown on another machine, whose first pid namespace has the same name', async () => {
    const own = await thisProcess();
    assert.equal(await fateOf({ ...own, bootId: 'another', pid: 2 ** 30 }, own), 'unknown');
    assert.equal(await fateOf({ ...own, bootId: '', pid: 2 ** 30 }, { ...own, bootId: '' }), 'unknown');
  });
});
