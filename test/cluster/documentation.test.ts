/** Every command of the documentation, as a reader pastes it, in order, on the node of `make cluster`. */

// Runs alone: its node uses namespaces, cgroups and devices of the machine, and has deadlines of its own.
// Shares a process: node

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { DiskExport } from '../../src/resource/disk-export.ts';
import { type Block, blocksOf, commandsOf, nameOf, PAGES } from '../helpers/document-blocks.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { type CommandResult, runCommand } from '../helpers/run-command.ts';
import { type Playground, preparePlayground } from './node/playground.ts';
import { useNodeCluster } from './use-node-cluster.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

/** Blocks that this node cannot run, by their first lines, and what they need. */
const NOT_RUN: Record<string, string> = {
  'make check': 'a development machine; it runs in front of this test',
  'npm audit signatures': 'a release that is published',
  'make cluster': 'no node: it starts the one that this test is on',
  'podman build --tag registry.example/disklift:0.1.0 .': 'a registry; test/integration/container-image builds the image',
  'disklift verify /backups/fedora.qcow2': 'images on servers; test/integration/verify runs the three commands',
  'disklift export -f request.yaml --volume fedora-root=/path/of/the/volume':
    'a bucket, and a remote of rclone; test/integration/incremental makes and opens such chains',
  'kubectl --namespace disklift get leases': "the controller's release, and the name of its leading pod",
  'disklift receive --listen 0.0.0.0:9475 --output fedora.qcow2': 'the port at which the receiver of the examples listens',
  "kubectl create -f - -o jsonpath='{.status.token}' <<END": 'CDI in another cluster',
  'kubectl --namespace vms patch virtualmachine fedora --type merge --patch \'{"spec": {"runStrategy": "Halted"}}\'': 'KubeVirt',
  'helm install backup charts/disklift --namespace disklift --create-namespace': 'KubeVirt',
  'virtctl image-upload dv fedora-restored --namespace vms --size 20Gi --image-path fedora.qcow2': 'CDI',
};

/** The locations of the images in a status, as YAML. */
function locationsIn(status: string): string[] {
  return [...status.matchAll(/^ *-? *location: (\S+)$/gm)].map(([, location]) => location as string);
}

/**
 * kubectl's warning about objects that it did not make: the reader used Helm before, and then tries plain manifests.
 */
const OF_ANOTHER_WAY = /^Warning: .*last-applied-configuration.*$/gm;

/** Commands that run until the reader ends them. */
const ENDLESS = /--watch$|--follow$| port-forward |^disklift (sidecar|receive) /;
const ANSWER_LIMIT_MS = 20_000;
const BLOCK_LIMIT_SECONDS = 120;

describe('the blocks of the documentation', () => {
  it('run on the node, or are listed here with what they need', () => {
    const names = PAGES.flatMap((page) => blocksOf(page).filter(({ language }) => language === 'console')).map(nameOf);
    assert.deepEqual(names.toSorted(), Object.keys(NOT_RUN).toSorted());
  });

  it('have no commands on other pages', async () => {
    const { stdout } = await runCommand('git', ['ls-files', '*.md'], { cwd: ROOT });
    const others = stdout
      .toString()
      .trim()
      .split('\n')
      .filter((page) => !PAGES.includes(page));
    const isOfCommands = ({ language }: Block) => language === 'sh' || language === 'console';
    assert.deepEqual(
      others.filter((page) => blocksOf(page).some(isOfCommands)),
      [],
    );
  });
});

describe('the commands of the documentation on a real node', function () {
  this.timeout(300_000);
  let playground: Playground;
  /** The working directory of the reader. */
  let directory: string;
  /** Output files of commands that run until the end of the page. */
  const endless: string[] = [];

  before(async function () {
    const cluster = await useNodeCluster(this);
    playground = await preparePlayground(cluster);
    // A copy of the checkout, in which the commands can write files.
    directory = path.join(cluster.directory, 'checkout');
    mkdirSync(directory);
    for (const name of readdirSync(ROOT))
      if (name === 'charts' || name === 'manifests') cpSync(path.join(ROOT, name), path.join(directory, name), { recursive: true });
      else symlinkSync(path.join(ROOT, name), path.join(directory, name));
  });

  after(() => playground?.stopReceivers());

  /** Runs a script on the node, in the reader's working directory. */
  function bash(script: string): Promise<CommandResult> {
    const command = ['timeout', `${BLOCK_LIMIT_SECONDS}`, 'bash', '-e', '-o', 'pipefail', '-c', script];
    return runCommand(playground.run, command, { cwd: directory });
  }

  async function exportsNow(): Promise<DiskExport[]> {
    const { code, stdout, stderr } = await bash(`kubectl --namespace ${playground.namespace} get diskexports --output json`);
    if (/doesn't have a resource type|could not find the requested resource/.test(stderr)) return [];
    assert.equal(code, 0, stderr);
    return (JSON.parse(stdout.toString()) as { items: DiskExport[] }).items;
  }

  async function assertArrived(locations: readonly string[]): Promise<void> {
    assert.notEqual(locations.length, 0, 'an export has disks');
    for (const location of locations) await assertImageOf(playground.fileOf(location), playground.disk);
  }

  /** Asserts that exports that have ended since then have succeeded, with the disk's content. */
  async function assertExportsArrived(seen: Set<string | undefined>): Promise<void> {
    for (const { metadata, status } of await exportsNow()) {
      if (status?.completionTime === undefined || seen.has(metadata.uid)) continue;
      seen.add(metadata.uid);
      assert.equal(status.phase, 'Succeeded', `${metadata.name}: ${status.message}`);
      await assertArrived((status.disks ?? []).map(({ location }) => location ?? ''));
    }
  }

  /**
   * Asserts that images that a block leaves in the working directory have the disk's content. QEMU adds clusters to an
   * image to which the block adds a bitmap.
   */
  async function assertImagesAreWhole({ text }: { text: string }, sinceMs: number): Promise<void> {
    const withBitmap = new Set([...text.matchAll(/^qemu-img bitmap --add (\S+)/gm)].map(([, file]) => file));
    for (const name of readdirSync(directory).filter((entry) => entry.endsWith('.qcow2') && !withBitmap.has(entry)))
      if (statSync(path.join(directory, name)).mtimeMs >= sinceMs) await assertImageOf(path.join(directory, name), playground.disk);
  }

  async function untilItAnswers(log: string): Promise<void> {
    for (const endMs = performance.now() + ANSWER_LIMIT_MS; performance.now() < endMs; await delay(50)) {
      if (readFileSync(log, 'utf8') === '') continue;
      const { code } = await bash(`kill -0 "$(cat '${log}.pid')"`);
      assert.equal(code, 0, `has ended: ${readFileSync(log, 'utf8')}`);
      return;
    }
    assert.fail('says nothing');
  }

  /** @returns its standard output */
  async function run({ text }: Block): Promise<string> {
    const logs: string[] = [];
    const lines = commandsOf(text).map((command) => {
      if (!ENDLESS.test(command)) return command;
      const log = path.join(directory, `endless-${endless.length + logs.push('')}.log`);
      logs[logs.length - 1] = log;
      return `(exec ${command}) > '${log}' 2>&1 & echo $! > '${log}.pid'`;
    });
    const { code, stdout, stderr } = await bash(lines.join('\n'));
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.doesNotMatch(stderr.replace(OF_ANOTHER_WAY, ''), /warning/i);
    endless.push(...logs);
    for (const log of logs) await untilItAnswers(log);
    return stdout.toString();
  }

  /** As `make cluster` leaves the node. */
  afterEach(async function () {
    if (this.currentTest?.isFailed()) for (const log of endless) console.error(`--- ${log}\n${readFileSync(log, 'utf8').slice(-1500)}`);
    for (const log of endless.splice(0)) await bash(`kill "$(cat '${log}.pid')" || true`);
    const { code, stderr } = await bash(`
      helm --namespace vms uninstall nightly --ignore-not-found --no-hooks
      helm --namespace disklift uninstall backup --ignore-not-found --no-hooks
      kubectl --namespace vms delete deployments,jobs,pods,secrets --all
      kubectl delete crd diskexports.disklift.dev --ignore-not-found`);
    assert.equal(code, 0, stderr);
  });

  async function assertStatusSucceeds(file: string): Promise<void> {
    let status = '';
    for (const endMs = performance.now() + ANSWER_LIMIT_MS; performance.now() < endMs; await delay(200)) {
      status = (await bash(`cat ${file} || true`)).stdout.toString();
      if (/^ *phase: Succeeded$/m.test(status)) return assertArrived(locationsIn(status));
    }
    assert.fail(`${file} has not succeeded: ${status}`);
  }

  /** Results that a reader expects after a block, beside exports and images. */
  const outcomes: Record<string, (output: string) => Promise<void> | void> = {
    'disklift export -f request.yaml --volume fedora-root=/mnt/fedora-root': async (output) => {
      assert.match(output, /^ *phase: Succeeded$/m);
      await assertArrived(locationsIn(output));
      if (endless.length > 0) await assertStatusSucceeds('requests/*.status.yaml');
    },
    'install -D request.yaml /var/lib/disklift/requests/request.yaml': () =>
      assertStatusSucceeds('/var/lib/disklift/requests/*.status.yaml'),
    'curl --silent --show-error --fail http://localhost:9474/metrics': (output) => assert.match(output, /^disklift_exports_total\{/m),
    'kubectl --namespace vms apply -f manifests/stream-pod.yaml': (output) => assert.match(output, /^whole$/m),
    'kubectl create clusterrole metrics-reader --verb=get --non-resource-url=/metrics': (output) => assert.match(output, /^ey[\w.-]+$/m),
    'qemu-img convert -n -t writeback -f qcow2 -O raw fedora.qcow2 nbd://127.0.0.1:10809': async (output) => {
      assert.match(output, /Images are identical/);
      const compare = ['compare', '-f', 'raw', '-F', 'raw', playground.disk, playground.restoredDevice];
      assert.equal((await runCommand('qemu-img', compare)).code, 0, 'the device has the disk');
    },
    'helm uninstall nightly --namespace vms': async () => {
      const { stdout } = await bash('kubectl --namespace vms get all,roles --selector app.kubernetes.io/instance=nightly --output name');
      assert.equal(stdout.toString(), '', 'nothing of the release is left');
    },
    'helm uninstall backup --namespace disklift': async () => {
      const ofRelease = 'kubectl get all,roles,clusterroles --all-namespaces --selector app.kubernetes.io/instance=backup --output name';
      const ofWorkers = 'kubectl get jobs,pods,configmaps,serviceaccounts,rolebindings --all-namespaces --output name';
      const { stdout } = await bash(`${ofRelease}; ${ofWorkers} --selector app.kubernetes.io/managed-by=disklift-controller`);
      assert.equal(stdout.toString(), '', 'nothing of the release and of its workers is left');
    },
  };

  for (const page of PAGES) {
    const blocks = blocksOf(page);
    if (!blocks.some(({ language }) => language === 'sh')) continue;
    it(page, async () => {
      const seen = new Set<string | undefined>();
      for (const block of blocks) {
        const [, file] = /^# (\S+\.yaml)\n/.exec(block.text) ?? [];
        if (block.language === 'yaml' && file !== undefined) writeFileSync(path.join(directory, file), block.text);
        if (block.language !== 'sh') continue;
        const startMs = Date.now();
        try {
          const output = await run(block);
          await assertExportsArrived(seen);
          await assertImagesAreWhole(block, startMs);
          await outcomes[nameOf(block)]?.(output);
        } catch (error) {
          throw new Error(`${page}:${block.line}: ${error instanceof Error ? error.message : error}`, { cause: error });
        }
      }
    });
  }
});
