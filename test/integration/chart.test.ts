/** The Helm chart and the plain manifests, as the real helm and kubectl see them. No cluster is needed. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { assertRestricted, type Deployment, type Pod, type PodSpec } from '../helpers/helm-pods.ts';
import { type HelmTools, helmTools } from '../helpers/helm-tools.ts';
import type { CommandResult } from '../helpers/run-command.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const CHART = path.join(ROOT, 'charts', 'disklift');
const POD = path.join(ROOT, 'manifests', 'stream-pod.yaml');
const BLOCK_POD = path.join(ROOT, 'manifests', 'stream-pod-block.yaml');

const IMAGE = { repository: 'registry.example/disklift' };
const FEDORA = { name: 'fedora', claimName: 'fedora-root' };
const WINDOWS = { name: 'windows', claimName: 'windows-root', mode: 'Block' };
const MINIMAL = { image: IMAGE, volumes: [FEDORA] };

/** One Deployment's pod; there must be exactly one. */
function podOf(deployments: Deployment[]): PodSpec {
  assert.equal(deployments.length, 1);
  return (deployments[0] as Deployment).spec.template.spec;
}

function assertSucceeded(result: CommandResult): string {
  assert.equal(result.code, 0, result.stderr);
  return result.stdout.toString();
}

describe('the chart and the manifests', function () {
  this.timeout(120_000);

  const inTempDir = useTempDir();
  let tools: HelmTools;
  before(() => {
    tools = helmTools();
  });

  function valuesFile(values: unknown): string {
    const file = inTempDir('values.json');
    writeFileSync(file, JSON.stringify(values));
    return file;
  }

  const template = (values: unknown, ...flags: string[]) =>
    tools.helm('template', 'nightly', CHART, '--namespace', 'vms', '--values', valuesFile(values), ...flags);

  async function render(values: unknown): Promise<Deployment[]> {
    const text = assertSucceeded(await template(values));
    return parseAllDocuments(text).map((document) => document.toJS() as Deployment);
  }

  /** kubectl reads objects as the types of its built-in API and drops what they do not have, such as a misspelt field. */
  async function assertFieldsExist(object: Deployment | Pod): Promise<void> {
    const file = inTempDir('object.json');
    writeFileSync(file, JSON.stringify(object));
    const args = ['set', 'image', '--local', '--filename', file, 'disklift=other', '--output', 'json'];
    const { status: _, ...read } = JSON.parse(assertSucceeded(await tools.kubectl(...args)));
    assert.deepEqual(
      read,
      JSON.parse(JSON.stringify(object), (key, value) => (key === 'image' ? 'other' : value)),
    );
  }

  describe('helm lint --strict', () => {
    for (const [title, values] of [
      ['finds nothing in the chart as it is', {}],
      ['finds nothing with every kind of volume', { image: IMAGE, volumes: [FEDORA, WINDOWS] }],
    ] as const) {
      it(title, async () => {
        assertSucceeded(await tools.helm('lint', '--strict', CHART, '--values', valuesFile(values)));
      });
    }
  });

  describe('helm template', () => {
    const accepted: [title: string, values: object, check: (deployments: Deployment[]) => void][] = [
      [
        'mounts a claim with a file system beneath /disks',
        MINIMAL,
        (deployments) => {
          const { containers, volumes } = podOf(deployments);
          assert.deepEqual(containers[0]?.volumeMounts, [{ name: 'disks', mountPath: '/disks', readOnly: true }]);
          assert.equal(containers[0]?.volumeDevices, undefined);
          assert.deepEqual(volumes, [{ name: 'disks', persistentVolumeClaim: { claimName: 'fedora-root', readOnly: true } }]);
        },
      ],
      [
        'gives a block volume as a device',
        { image: IMAGE, volumes: [WINDOWS] },
        (deployments) => {
          const [container] = podOf(deployments).containers;
          assert.deepEqual(container?.volumeDevices, [{ name: 'disks', devicePath: '/dev/vmdisk' }]);
          assert.equal(container?.volumeMounts, undefined);
        },
      ],
      [
        'makes one Deployment a volume, each with a selector of its own and at most one pod at a time',
        { image: IMAGE, volumes: [FEDORA, WINDOWS] },
        (deployments) => {
          assert.deepEqual(
            deployments.map(({ metadata }) => metadata),
            ['fedora', 'windows'].map((name, index) => ({
              ...deployments[index]?.metadata,
              name: `nightly-disklift-${name}`,
              namespace: 'vms',
            })),
          );
          const selectors = deployments.map(({ spec }) => JSON.stringify(spec.selector.matchLabels));
          assert.equal(new Set(selectors).size, 2);
          for (const { spec } of deployments) {
            assert.equal(spec.replicas, 1);
            assert.deepEqual(spec.strategy, { type: 'Recreate' });
            assert.deepEqual(spec.template.metadata.labels, spec.selector.matchLabels);
          }
        },
      ],
      [
        'takes the tag from the appVersion',
        MINIMAL,
        (deployments) => assert.equal(podOf(deployments).containers[0]?.image, `${IMAGE.repository}:${packageVersion()}`),
      ],
      [
        'takes another tag, pull policy and pull secrets',
        { ...MINIMAL, image: { ...IMAGE, tag: '1.10', pullPolicy: 'Always' }, imagePullSecrets: [{ name: 'registry' }] },
        (deployments) => {
          const pod = podOf(deployments);
          assert.equal(pod.containers[0]?.image, `${IMAGE.repository}:1.10`);
          assert.deepEqual(pod.imagePullSecrets, [{ name: 'registry' }]);
        },
      ],
      [
        'takes node selectors, tolerations and affinity',
        { ...MINIMAL, nodeSelector: { zone: '1' }, tolerations: [{ operator: 'Exists' }], affinity: { nodeAffinity: {} } },
        (deployments) => {
          const { nodeSelector, tolerations, affinity } = podOf(deployments);
          assert.deepEqual(
            { nodeSelector, tolerations, affinity },
            { nodeSelector: { zone: '1' }, tolerations: [{ operator: 'Exists' }], affinity: { nodeAffinity: {} } },
          );
        },
      ],
      [
        'adds labels to pods, but not over those that select them',
        { ...MINIMAL, podLabels: { team: 'backup', 'app.kubernetes.io/name': 'other' } },
        ([deployment]) => {
          const { selector, template } = (deployment as Deployment).spec;
          assert.deepEqual(template.metadata.labels, { ...selector.matchLabels, team: 'backup' });
          assert.equal(selector.matchLabels['app.kubernetes.io/name'], 'disklift');
        },
      ],
      [
        'keeps names that look like numbers as text',
        { image: IMAGE, volumes: [{ name: '1', claimName: '2' }] },
        (deployments) => assert.equal(podOf(deployments).volumes[0]?.persistentVolumeClaim.claimName, '2'),
      ],
      ['lets an umbrella chart set globals', { ...MINIMAL, global: { anything: 1 } }, (deployments) => podOf(deployments)],
    ];
    for (const [title, values, check] of accepted) {
      it(title, async () => {
        const deployments = await render(values);
        check(deployments);
        for (const { kind, spec } of deployments) {
          assert.equal(kind, 'Deployment');
          assertRestricted(spec.template.spec);
        }
      });
    }

    it('names no user for OpenShift, where the namespace has one', async () => {
      const deployments = await render({ image: IMAGE, volumes: [FEDORA, WINDOWS], securityContext: { mode: 'OpenShift' } });
      assert.equal(deployments.length, 2);
      for (const { spec } of deployments) assertRestricted(spec.template.spec, 'OpenShift');
    });

    it('uses only fields that the Kubernetes API has', async () => {
      const deployments = await render({ image: IMAGE, volumes: [FEDORA, WINDOWS], tolerations: [{ operator: 'Exists' }] });
      for (const deployment of deployments) await assertFieldsExist(deployment);
    });

    const refused: [title: string, values: object, message: RegExp][] = [
      ['no volumes', { image: IMAGE }, /volumes is empty/],
      ['no image', { volumes: [FEDORA] }, /image\.repository is not set/],
      ['a key that does not exist', { ...MINIMAL, replicas: 2 }, /'replicas' not allowed/],
      ['a key that does not exist, further down', { ...MINIMAL, image: { ...IMAGE, tags: 'x' } }, /\/image.*'tags' not allowed/s],
      ['a volume without a claim', { image: IMAGE, volumes: [{ name: 'fedora' }] }, /\/volumes\/0.*'claimName'/s],
      ['a claim name that is none', { image: IMAGE, volumes: [{ ...FEDORA, claimName: 'Fedora_root' }] }, /\/volumes\/0\/claimName/],
      ['a volume name that is no label', { image: IMAGE, volumes: [{ ...FEDORA, name: 'a.b' }] }, /\/volumes\/0\/name/],
      ['a volume name that is too long', { image: IMAGE, volumes: [{ ...FEDORA, name: 'a'.repeat(41) }] }, /\/volumes\/0\/name/],
      ['two volumes of one name', { image: IMAGE, volumes: [FEDORA, { ...WINDOWS, name: 'fedora' }] }, /the name fedora is there twice/],
      ['a volume mode that does not exist', { image: IMAGE, volumes: [{ ...FEDORA, mode: 'File' }] }, /\/volumes\/0\/mode/],
      ['a security mode that does not exist', { ...MINIMAL, securityContext: { mode: 'Privileged' } }, /\/securityContext\/mode/],
      ['an fsGroup', { ...MINIMAL, securityContext: { mode: 'KubeVirt', fsGroup: 107 } }, /'fsGroup' not allowed/],
      ['a tag that is a number', { ...MINIMAL, image: { ...IMAGE, tag: 1.1 } }, /\/image\/tag/],
      ['a pull policy that does not exist', { ...MINIMAL, image: { ...IMAGE, pullPolicy: 'never' } }, /\/image\/pullPolicy/],
      ['labels that are not text', { ...MINIMAL, podLabels: { a: 1 } }, /\/podLabels\/a/],
    ];
    for (const [title, values, message] of refused) {
      it(`refuses ${title}`, async () => {
        const { code, stdout, stderr } = await template(values);
        assert.notEqual(code, 0, stdout.toString());
        assert.match(stderr, message);
      });
    }

    it('refuses a cluster that is too old', async () => {
      const { code, stderr } = await template(MINIMAL, '--kube-version', '1.28.9');
      assert.notEqual(code, 0);
      assert.match(stderr, />=1\.29\.0-0/);
    });
  });

  it('the notes name the commands for each volume, and how the size is checked', async () => {
    const values = valuesFile({ image: IMAGE, volumes: [FEDORA, WINDOWS] });
    const args = ['install', 'nightly', CHART, '--namespace', 'vms', '--values', values, '--dry-run=client'];
    const [, notes = ''] = assertSucceeded(await tools.helm(...args)).split('NOTES:\n');
    const exec = (name: string) => `kubectl --namespace vms exec deployment/nightly-disklift-${name} -- disklift`;
    assert.ok(notes.includes(`${exec('fedora')} stream /disks/disk.img > fedora.qcow2\n`), notes);
    assert.ok(notes.includes(`${exec('fedora')} measure /disks/disk.img --output json |`), notes);
    assert.ok(notes.includes(`${exec('windows')} stream /dev/vmdisk > windows.qcow2\n`), notes);
    assert.match(notes, /\[ "\$\(wc -c < windows\.qcow2\)" -eq "\$size" \]/);
    assert.match(notes, /helm --namespace vms uninstall nightly$/m);
  });

  it('every value has a comment and a place in the schema', () => {
    const text = readFileSync(path.join(CHART, 'values.yaml'), 'utf8');
    const { properties } = JSON.parse(readFileSync(path.join(CHART, 'values.schema.json'), 'utf8')) as { properties: object };
    assert.deepEqual(Object.keys(properties).sort(), [...Object.keys(parse(text) as object), 'global'].sort());
    const lines = text.split('\n');
    const uncommented = lines.filter((line, index) => /^( {2})?\w+: \S|^resources:/.test(line) && !/^ *#/.test(lines[index - 1] ?? ''));
    assert.deepEqual(uncommented, []);
  });

  it('the chart has the version of the package', () => {
    const chart = parse(readFileSync(path.join(CHART, 'Chart.yaml'), 'utf8')) as Record<string, string>;
    assert.deepEqual([chart.version, chart.appVersion], [packageVersion(), packageVersion()]);
  });

  describe('the plain manifests', () => {
    for (const [file, volume] of [
      [POD, FEDORA],
      [BLOCK_POD, WINDOWS],
    ] as const) {
      const name = path.basename(file, '.yaml');

      it(`${name} is the pod that the chart makes`, async () => {
        const pod = parse(readFileSync(file, 'utf8')) as Pod;
        assert.equal(pod.kind, 'Pod');
        assert.equal(pod.metadata.name, name);
        assertRestricted(pod.spec);
        assert.deepEqual(pod.spec, podOf(await render({ image: IMAGE, volumes: [volume] })));
      });

      it(`${name} uses only fields that the Kubernetes API has`, async () => {
        await assertFieldsExist(parse(readFileSync(file, 'utf8')) as Pod);
      });
    }
  });
});

function packageVersion(): string {
  return (JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string }).version;
}
