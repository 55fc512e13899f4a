/** The texts of the chart for users: its notes, its values, its version. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { CONTROLLER_SETTINGS } from '../../src/config/controller-settings.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { validateDiskExport } from '../../src/resource/validate.ts';
import { CHART, CONTROLLER, FEDORA, IMAGE, WINDOWS } from '../helpers/chart.ts';
import { helmTools } from '../helpers/helm-tools.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

describe('the words of the chart', () => {
  const inTempDir = useTempDir();

  it('the notes say what to apply next, for each volume', async () => {
    const values = inTempDir('values.json');
    writeFileSync(values, JSON.stringify({ image: IMAGE, volumes: [FEDORA, { ...WINDOWS, once: 'windows-nightly' }] }));
    const args = ['install', 'nightly', CHART, '--namespace', 'vms', '--values', values, '--dry-run=client'];
    const { code, stdout, stderr } = await helmTools().helm(...args);
    assert.equal(code, 0, stderr);
    const [, notes = ''] = stdout.toString().split('NOTES:\n');
    const exports = [...notes.matchAll(/<<END\n(.*?)\n {2}END\n/gs)].map(([, text]) => parse(text as string));
    assert.deepEqual(
      exports.map(({ metadata, spec }) => [metadata.name, metadata.namespace, spec.source.persistentVolumeClaim.claimName]),
      [
        ['fedora-1', 'vms', 'fedora-root'],
        ['windows-nightly', 'vms', 'windows-root'],
      ],
    );
    for (const request of exports) validateDiskExport(request);
    assert.match(notes, /kubectl --namespace vms wait diskexport\/windows-nightly --for=condition=Finished/);
    assert.match(notes, /helm --namespace vms uninstall nightly$/m);
  });

  it('the notes say what to apply for a controller, in a namespace that it serves', async () => {
    const values = inTempDir('values.json');
    writeFileSync(
      values,
      JSON.stringify({ ...CONTROLLER, controller: { enabled: true, namespaces: ['team'] }, http: { tokenReview: true } }),
    );
    const args = ['install', 'nightly', CHART, '--namespace', 'backup', '--values', values, '--dry-run=client'];
    const { code, stdout, stderr } = await helmTools().helm(...args);
    assert.equal(code, 0, stderr);
    const [, notes = ''] = stdout.toString().split('NOTES:\n');
    const [request] = [...notes.matchAll(/<<END\n(.*?)\n {2}END\n/gs)].map(([, text]) => parse(text as string));
    assert.equal(request.metadata.namespace, 'team');
    assert.deepEqual(validateDiskExport(request).spec.source.virtualMachine?.name, 'fedora');
    assert.match(notes, /kubectl --namespace team wait diskexport\/fedora-1 --for=condition=Finished/);
    assert.match(notes, /clusterrolebinding backup-nightly-disklift-reviews .*\\\n *--serviceaccount=backup:nightly-disklift-controller\n/);
    assert.match(notes, /helm --namespace backup uninstall nightly$/m);
    assert.doesNotMatch(notes, /Stop the VM first|Deployments keep/);
  });

  it('the notes say how a scheduled export is run at once', async () => {
    const values = inTempDir('values.json');
    const schedule = { cron: '30 1 * * *', spec: { destination: { http: { url: 'https://backup.example/{date}' } } } };
    writeFileSync(values, JSON.stringify({ image: IMAGE, volumes: { fedora: { claimName: 'fedora-root', schedule } } }));
    const args = ['install', 'nightly', CHART, '--namespace', 'vms', '--values', values, '--dry-run=client'];
    const { code, stdout, stderr } = await helmTools().helm(...args);
    assert.equal(code, 0, stderr);
    const [, notes = ''] = stdout.toString().split('NOTES:\n');
    assert.match(notes, /kubectl --namespace vms create job fedora-now --from=cronjob\/nightly-disklift-fedora$/m);
    assert.doesNotMatch(notes, /kubectl apply -f - <<END/);
  });

  it('the notes name the missing right to review tokens, only if a sidecar needs it', async () => {
    const notesWith = async (...flags: string[]): Promise<string> => {
      const values = inTempDir('values.json');
      writeFileSync(values, JSON.stringify({ image: IMAGE, volumes: [FEDORA] }));
      const args = ['install', 'nightly', CHART, '--namespace', 'vms', '--values', values, '--dry-run=client', ...flags];
      const { code, stdout, stderr } = await helmTools().helm(...args);
      assert.equal(code, 0, stderr);
      return stdout.toString().split('NOTES:\n')[1] ?? '';
    };
    assert.doesNotMatch(await notesWith(), /clusterrolebinding/);
    const command = /^ {2}(kubectl create clusterrolebinding .*?)\n\n/ms.exec(await notesWith('--set', 'http.tokenReview=true'))?.[1] ?? '';
    assert.deepEqual(command.split(/[\s\\]+/).slice(3), [
      'vms-nightly-disklift-reviews',
      '--clusterrole=system:auth-delegator',
      '--serviceaccount=vms:nightly-disklift',
    ]);
    assert.ok(readFileSync(path.join(ROOT, 'docs', 'operations.md'), 'utf8').includes(command.replace('\n  ', '\n')), 'as in the docs');
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
    const { version } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string };
    assert.deepEqual([chart.version, chart.appVersion], [version, version]);
  });

  it('its settings are those of the sidecar and of the controller', () => {
    const { properties } = JSON.parse(readFileSync(path.join(CHART, 'values.schema.json'), 'utf8'));
    const unknown = Object.keys(properties.config.properties).filter((key) => !(key in SETTINGS));
    assert.deepEqual(unknown, []);
    const ofController = properties.controller.properties.config.properties;
    assert.deepEqual(
      Object.keys(ofController).filter((key) => !(key in CONTROLLER_SETTINGS)),
      [],
    );
  });
});
