/** `disklift create` on a real API server. sidecar-jobs shows on the node which rights its account needs. */

// Shares a process: API server

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { disklift } from '../helpers/disklift.ts';
import { diskExport } from '../helpers/manifest.ts';
import type { CommandResult } from '../helpers/run-command.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import type { ApiServer } from './api-server.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { useApiServer } from './use-api-server.ts';

describe('disklift create', function () {
  this.timeout(60_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;

  before(async function () {
    api = await useApiServer(this);
    await installCrd(api);
  });

  beforeEach(async () => {
    namespace = await createNamespace(api);
  });

  function create(metadata: object, ...flags: string[]): Promise<CommandResult> {
    const manifest = diskExport('', { http: { url: 'http://sink.example/{date}/{disk}' } });
    writeFileSync(temp('request.json'), JSON.stringify({ ...manifest, metadata }));
    return disklift(['create', '--file', temp('request.json'), '--kubeconfig', api.kubeconfig, '--namespace', namespace.name, ...flags]);
  }

  const names = async () => {
    const { body } = await namespace.request('diskexports');
    return (body.items as { metadata: { name: string } }[]).map(({ metadata }) => metadata.name);
  };

  it('makes one DiskExport owned by the Job, however often it is called', async () => {
    const of = ['--job', 'nights-29412345', '--job-uid', 'b1f6'];
    const first = await create({ generateName: 'nights-', labels: { team: 'a' } }, ...of);
    assert.deepEqual([first.code, first.stdout.toString()], [0, 'diskexport.disklift.dev/nights-29412345 created\n'], first.stderr);
    const second = await create({ generateName: 'nights-' }, ...of);
    assert.deepEqual(
      [second.code, second.stdout.toString()],
      [0, 'diskexport.disklift.dev/nights-29412345 was created by an earlier pod\n'],
    );
    assert.deepEqual(await names(), ['nights-29412345']);
    const { metadata, status } = (await namespace.request('diskexports/nights-29412345')).body;
    assert.deepEqual(metadata.ownerReferences, [{ apiVersion: 'batch/v1', kind: 'Job', name: 'nights-29412345', uid: 'b1f6' }]);
    assert.deepEqual([metadata.labels, status.phase], [{ team: 'a' }, 'Pending']);
  });

  it('appends the time to the name, and refuses a name that exists', async () => {
    assert.equal((await create({ generateName: 'fedora-' })).code, 0);
    assert.match((await names())[0] ?? '', /^fedora-\d{8}t\d{6}z$/);
    assert.equal((await create({ name: 'fixed' })).code, 0);
    const again = await create({ name: 'fixed' });
    assert.deepEqual([again.code, again.stdout.length], [1, 0]);
    assert.match(again.stderr, /already exists/);
  });

  for (const [what, metadata, flags, message] of [
    ['a Job without its UID', { name: 'a' }, ['--job', 'a'], /--job and --job-uid need each other/],
    ['a manifest without a name', {}, [], /metadata\.name: is required/],
  ] as const)
    it(`refuses ${what} with exit code 2`, async () => {
      const { code, stderr } = await create(metadata, ...flags);
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
      assert.deepEqual(await names(), []);
    });

  it('fails without a Job when the API server does not answer, because a second call could make a second export', async function () {
    if (api.outage === undefined) return this.skip();
    api.outage.freeze();
    try {
      const { code, stderr } = await create({ generateName: 'a-' });
      assert.equal(code, 1);
      assert.match(stderr, /^disklift: [^\n]+\n$/);
    } finally {
      api.outage.thaw();
    }
  });

  it('waits in a Job for an API server that does not answer', async function () {
    if (api.outage === undefined) return this.skip();
    const { outage } = api;
    outage.freeze();
    setTimeout(() => outage.thaw(), 20_000);
    const { code, stderr } = await create({ generateName: 'a-' }, '--job', 'late', '--job-uid', 'b1f6');
    assert.equal(code, 0, stderr);
    assert.match(stderr, /warning: /);
    assert.deepEqual(await names(), ['late']);
  });
});
