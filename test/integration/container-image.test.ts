/** The container image: built from the unchanged Dockerfile, on stand-ins for its two bases, and run. */

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { closeSync, lstatSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { type BuiltImage, openImage } from '../helpers/container-image.ts';
import { execIn, killContainer, startContainer, terminate } from '../helpers/container-process.ts';
import type { Pod } from '../helpers/helm-pods.ts';
import { createKubeVirtDisk, QEMU_USER } from '../helpers/kubevirt-disk.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { type CommandResult, readAll, runCommand } from '../helpers/run-command.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const MIB = 1024 * 1024;

/**
 * Today 37 MiB, of which 24 MiB are client-node's models. A larger addition, such as binaries of a second platform, is
 * a mistake.
 */
const MAX_APP_BYTES = 50 * MIB;

interface LockFile {
  packages: Record<string, { version: string; dev?: boolean }>;
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, 'utf8'));
}

/** The files beneath a folder, relative to it. */
function filesIn(directory: string): string[] {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)));
}

describe('the container image', function () {
  this.timeout(120_000);

  const inTempDir = useTempDir();
  let image: BuiltImage;
  before(async () => {
    image = await openImage('disklift');
  });
  after(() => image?.[Symbol.asyncDispose]());

  const inImage = (name: string) => path.join(image.root, name);

  describe('its configuration', () => {
    it('starts disklift, as the user who owns the disks of KubeVirt', () => {
      const { Entrypoint, Cmd, User, WorkingDir } = image.config;
      assert.deepEqual(
        { Entrypoint, Cmd, User, WorkingDir },
        { Entrypoint: ['disklift'], Cmd: undefined, User: '107:107', WorkingDir: '/app' },
      );
    });

    it('has labels with title, version and license', () => {
      const { name, description, version, license } = readJson(path.join(ROOT, 'package.json')) as Record<string, string>;
      const label = (key: string) => image.config.Labels[`org.opencontainers.image.${key}`];
      assert.deepEqual([label('title'), label('description'), label('version'), label('licenses')], [name, description, version, license]);
    });
  });

  describe('its files', () => {
    it('include the packages of the lock file in its versions, and no development packages', () => {
      const lock = readJson(path.join(ROOT, 'package-lock.json')) as LockFile;
      const manifests = filesIn(inImage('app')).filter((file) => /(^|\/)node_modules\/(@[^/]+\/)?[^/]+\/package\.json$/.test(file));
      const installed = manifests.map((file) => path.dirname(file));
      assert.deepEqual(
        installed.map((name) => [name, (readJson(inImage(`app/${name}/package.json`)) as { version: string }).version]),
        installed.map((name) => [name, lock.packages[name]?.version]),
      );
      assert.deepEqual(
        installed.filter((name) => lock.packages[name]?.dev),
        [],
      );
      for (const name of ['commander', 'cli-progress', 'koffi']) assert.ok(installed.includes(`node_modules/${name}`), name);
    });

    it('include no TypeScript sources and nothing to compile', () => {
      const files = filesIn(inImage('app'));
      assert.deepEqual(
        files.filter((file) => /(?<!\.d)\.ts$|^dist\/.*\.d\.ts$|\.tsbuildinfo$|\/vendor\//.test(file)),
        [],
      );
      assert.deepEqual([...new Set(files.map((file) => file.split('/')[0]))].sort(), ['LICENSE', 'dist', 'node_modules', 'package.json']);
    });

    it('include one binary of koffi, for this platform', () => {
      const binaries = filesIn(inImage('app')).filter((file) => file.endsWith('.node'));
      assert.equal(binaries.length, 1, binaries.join());
      assert.match(binaries[0] as string, new RegExp(`linux_${process.arch}/koffi\\.node$`));
    });

    it('can be changed only by root', () => {
      for (const name of ['', ...readdirSync(inImage('app'), { recursive: true, encoding: 'utf8' })]) {
        const { uid, mode } = lstatSync(inImage(`app/${name}`));
        assert.deepEqual([uid, mode & 0o022], [0, 0], name);
      }
    });

    it(`take less than ${MAX_APP_BYTES / MIB} MiB beside the base`, () => {
      const bytes = (directory: string) => filesIn(directory).reduce((sum, file) => sum + lstatSync(path.join(directory, file)).size, 0);
      const appBytes = bytes(inImage('app'));
      console.log(`        /app ${(appBytes / MIB).toFixed(1)} MiB, the whole image ${(bytes(image.root) / MIB).toFixed(1)} MiB`);
      assert.ok(appBytes < MAX_APP_BYTES, `${appBytes} bytes`);
    });
  });

  describe('in a pod under Pod Security restricted', () => {
    const containers: ChildProcess[] = [];
    afterEach(async () => {
      await Promise.all(containers.splice(0).map(killContainer));
    });

    async function start(command: readonly string[]): Promise<ChildProcess> {
      const { root, config } = image;
      const container = await startContainer({ root, uid: QEMU_USER, workingDirectory: config.WorkingDir, disks: inTempDir('') }, command);
      containers.push(container);
      return container;
    }

    /** `kubectl exec` into a pod of manifests/. */
    async function exec(
      command: readonly string[],
      { uid = QEMU_USER, stdout }: { uid?: number; stdout?: number } = {},
    ): Promise<CommandResult> {
      return execIn(await start(idleCommand()), uid, command, stdout === undefined ? {} : { stdout });
    }

    it('prints its version', async () => {
      const { version } = readJson(path.join(ROOT, 'package.json')) as { version: string };
      const { code, stdout, stderr } = await exec(['disklift', '--version']);
      assert.deepEqual([code, stdout.toString(), stderr], [0, `${version}\n`, '']);
    });

    it('has koffi, which disklift would silently run without', async () => {
      const script = "require('koffi').load('libc.so.6').func('int getpid()')() > 0 || process.exit(1)";
      const { code, stderr } = await exec(['/nodejs/bin/node', '-e', script]);
      assert.equal(code, 0, stderr);
    });

    it('has no shell', async () => {
      const { code, stderr } = await exec(['sh', '-c', 'exit 0']);
      assert.notEqual(code, 0);
      assert.match(stderr, /sh: No such file or directory/);
    });

    it('streams a disk that only the qemu user can read, in the length that measure printed', async () => {
      const disk = await createKubeVirtDisk(inTempDir(''));
      const measured = await exec(['disklift', 'measure', '/disks/disk.img', '--output', 'json']);
      assert.equal(measured.code, 0, measured.stderr);
      const output = inTempDir('out.qcow2');
      const stdout = openSync(output, 'w');
      const { code, stderr } = await exec(['disklift', 'stream', '/disks/disk.img'], { stdout }).finally(() => closeSync(stdout));
      assert.deepEqual([code, stderr], [0, '']);
      assert.equal(statSync(output).size, (JSON.parse(measured.stdout.toString()) as { imageSizeBytes: number }).imageSizeBytes);
      await assertImageOf(output, disk);
    });

    it('cannot read that disk as another user, and reports that', async () => {
      await createKubeVirtDisk(inTempDir(''));
      const { code, stdout, stderr } = await exec(['disklift', 'stream', '/disks/disk.img'], { uid: 65_532 });
      assert.deepEqual([code, stdout.length], [1, 0]);
      assert.match(stderr, /disk\.img: .*permission denied/i);
    });

    it('also streams as the first process', async () => {
      const disk = await createKubeVirtDisk(inTempDir(''));
      const { stdout, stderr } = await start([...image.config.Entrypoint, 'stream', '/disks/disk.img']);
      const [streamed, errors] = await Promise.all([readAll(stdout), readAll(stderr)]);
      assert.equal(errors.toString(), '');
      const output = inTempDir('out.qcow2');
      writeFileSync(output, streamed);
      await assertImageOf(output, disk);
    });

    it('ends with an error when it is stopped as the first process, and leaves no valid image', async () => {
      const disk = await createKubeVirtDisk(inTempDir(''));
      // The output is not read, so the stream cannot reach the end of the image.
      const streaming = await start([...image.config.Entrypoint, 'stream', '/disks/disk.img']);
      const { end, tookMs, stdout, stderr } = await terminate(streaming);
      assert.equal(end, 143);
      assert.ok(tookMs < 2000, `${tookMs} ms`);
      assert.match(stderr.toString(), /cancelled by SIGTERM/);
      const output = inTempDir('out.qcow2');
      writeFileSync(output, stdout);
      const { code } = await runCommand('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', output, disk]);
      assert.notEqual(code, 0);
    });

    it('waits without a shell, and ends as soon as its pod is deleted', async () => {
      const { end, tookMs } = await terminate(await start(idleCommand()));
      assert.equal(end, 0);
      assert.ok(tookMs < 2000, `${tookMs} ms`);
    });
  });
});

/** The command that keeps the pods of manifests/ running; a test of the chart compares the chart's with it. */
function idleCommand(): readonly string[] {
  const { spec } = parse(readFileSync(path.join(ROOT, 'manifests', 'stream-pod.yaml'), 'utf8')) as Pod;
  return spec.containers[0]?.command ?? assert.fail('the pod has a command');
}
