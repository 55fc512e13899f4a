/** The sidecar with only the chart's own Role: it sends no request beyond it, and uses every right of it. */

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { FEDORA } from '../helpers/chart.ts';
import { type HttpSink, startHttpSink } from '../helpers/http-sink.ts';
import { attachLoopDevice, requireLoopDevices } from '../helpers/loop-device.ts';
import { diskExport, type Manifest } from '../helpers/manifest.ts';
import { type S3Fake, startS3Fake } from '../helpers/s3-fake.ts';
import { s3InParts } from '../helpers/s3-in-parts.ts';
import type { Sidecar } from '../helpers/sidecar.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { createTestAuthority } from '../helpers/test-authority.ts';
import { until } from '../helpers/until.ts';
import type { AuditedRequest } from './audit-log.ts';
import { type AuditedApiServer, startAuditedApiServer } from './audited-api-server.ts';
import { applyChartAccount, type ChartAccount } from './chart-account.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';

const MIB = 1024 * 1024;

describe('the permissions of the sidecar', function () {
  this.timeout(120_000);
  const temp = useTempDir();
  let api: AuditedApiServer;
  let namespace: Namespace;
  let account: ChartAccount;

  before(async function () {
    // As in OpenShift: an owner reference with blockOwnerDeletion requires the right to update the owner's finalizers.
    api = await startAuditedApiServer(this, '--enable-admission-plugins=OwnerReferencesPermissionEnforcement');
    await installCrd(api);
  });

  after(async () => {
    await api?.stop();
  });

  beforeEach(async () => {
    namespace = await createNamespace(api);
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), 32 * MIB, [{ offsetBytes: MIB, lengthBytes: 12 * MIB, content: 'random' }]);
    await namespace.secret('keys', { AWS_ACCESS_KEY_ID: 'access', AWS_SECRET_ACCESS_KEY: 'secret' });
  });

  const start = (...flags: string[]): Promise<Sidecar> =>
    namespace.start({
      volumes: [`claim=${temp('volume')}`],
      flags: ['--kubeconfig', account.kubeconfig, '--max-concurrent-exports', '9', ...flags],
    });

  const toS3 = ({ url }: S3Fake): object => s3InParts(url, '{name}');

  function asked(): AuditedRequest[] {
    return api.askedBy(account.user);
  }

  async function succeed(manifest: Manifest): Promise<void> {
    await namespace.apply(manifest);
    const { phase, message } = await namespace.finished(manifest.metadata.name);
    assert.equal(phase, 'Succeeded', message);
  }

  async function gone(name: string): Promise<void> {
    await namespace.until(name, (object) => object === undefined);
  }

  /** An upload that stays open until the test acts. */
  async function openUpload(name: string): Promise<S3Fake> {
    const s3 = await startS3Fake();
    s3.quirks.push({ operation: 'UploadPart', after: 1, does: 'hang' });
    await namespace.apply(diskExport(name, toS3(s3)));
    await until('a part hangs', () => s3.count('UploadPart') > 1);
    assert.deepEqual((await namespace.get(name))?.metadata.finalizers, ['disklift.dev/cleanup']);
    return s3;
  }

  /** Headers of a Secret, an authority of a ConfigMap, two failures in one event, and a deletion by TTL. */
  async function exportByHttp(): Promise<void> {
    const authority = await createTestAuthority(temp('.'));
    const { certificate: cert, key } = await authority.issue('sink', 'IP:127.0.0.1');
    let refusals = 2;
    await using sink: HttpSink = await startHttpSink({
      tls: { cert, key },
      onExpect: (_request, response) => {
        refusals -= 1;
        if (refusals >= 0) return void response.writeHead(503, { 'retry-after': '0' }).end();
        response.writeContinue();
        void sink.take(_request).then(() => response.writeHead(201).end());
      },
    });
    await namespace.secret('headers', { Authorization: 'Bearer of-the-test' });
    const configMap = { metadata: { name: 'authorities' }, data: { 'ca.crt': authority.ca } };
    assert.equal((await namespace.request('configmaps', { method: 'POST', body: configMap })).status, 201);
    const tls = { caBundleRef: { configMap: 'authorities', key: 'ca.crt' } };
    const http = { url: `${sink.url}/{name}`, headersSecretRef: { name: 'headers' }, tls };
    await namespace.apply(diskExport('http', { http }, { ttlSecondsAfterFinished: 1 }));
    await gone('http');
    assert.equal(sink.complete.size, 1);
    assert.equal(sink.requests.at(-1)?.headers.authorization, 'Bearer of-the-test');
    const { body } = await namespace.request('events?fieldSelector=involvedObject.name=http,reason=Retrying');
    assert.equal(body.items[0].count, 2);
  }

  async function exportToS3(): Promise<void> {
    await using s3 = await startS3Fake();
    await succeed(diskExport('s3', toS3(s3)));
    assert.ok(s3.store.objects.has('s3'));
  }

  async function deleteMidUpload(): Promise<void> {
    await using s3 = await openUpload('deleted');
    await until('it checks whether its namespace is terminating', () => asked().some(({ resource }) => resource === 'namespaces'));
    await namespace.remove('deleted');
    await gone('deleted');
    assert.equal(s3.store.uploads.size, 0);
  }

  /** The destination refuses at first to abort the upload, so the export ends before the upload is aborted. */
  async function cancelMidUpload(): Promise<void> {
    await using s3 = await openUpload('cancelled');
    s3.quirks.push({ operation: 'AbortMultipartUpload', does: { status: 403, code: 'AccessDenied' } });
    await namespace.edit('cancelled', { cancel: true });
    assert.equal((await namespace.finished('cancelled')).phase, 'Cancelled');
    s3.quirks.length = 0;
    await namespace.until('cancelled', (object) => object?.metadata.finalizers === undefined);
    assert.equal(s3.store.uploads.size, 0);
  }

  async function waitForPod(): Promise<void> {
    const spec = {
      serviceAccountName: 'disklift',
      automountServiceAccountToken: false,
      containers: [{ name: 'compute', image: 'vm', volumeMounts: [{ name: 'disk', mountPath: '/disk' }] }],
      volumes: [{ name: 'disk', persistentVolumeClaim: { claimName: 'claim' } }],
    };
    const pod = await namespace.request('pods', { method: 'POST', body: { metadata: { name: 'vm' }, spec } });
    assert.equal(pod.status, 201, JSON.stringify(pod.body));
    await using sink = await startHttpSink();
    await namespace.apply(diskExport('waits', { http: { url: `${sink.url}/{name}` } }));
    const inUse = /the container compute of the pod vm/;
    await namespace.until('waits', (object) => inUse.test(object?.status?.message ?? ''));
    await namespace.request('pods/vm?gracePeriodSeconds=0', { method: 'DELETE' });
    assert.equal((await namespace.finished('waits')).phase, 'Succeeded');
  }

  /** Waits until its Lease has expired. */
  async function takeOver(first: Sidecar): Promise<void> {
    await using s3 = await openUpload('taken');
    await first.stop('SIGKILL');
    s3.quirks.length = 0;
    await using second = await start();
    assert.equal((await namespace.finished('taken')).phase, 'Succeeded');
    assert.equal(await second.stop(), 0);
    assert.doesNotMatch(second.output(), /does not allow/);
  }

  it('are exactly those that it uses', async () => {
    account = await applyChartAccount(api, namespace.name);
    await using first = await start();
    // Before anything else uses the claim.
    await waitForPod();
    await Promise.all([exportByHttp(), exportToS3(), deleteMidUpload(), cancelMidUpload()]);
    await takeOver(first);
    assert.doesNotMatch(first.output(), /does not allow/);
    const requests = asked();
    assert.deepEqual(
      requests.filter(({ status }) => status === 401 || status === 403),
      [],
      'requests that were refused',
    );
    // /api, which every user may read, names no resource; it returns the address of the API server.
    const onResources = requests.filter(({ resource }) => resource !== '');
    assert.equal(requests.length - onResources.length, 2, 'one for each process');
    assert.ok(onResources.every((request) => request.namespace === namespace.name));
    const used = [...new Set(onResources.map(({ resource, verb }) => `${resource} ${verb}`))].sort();
    assert.deepEqual(used, account.permitted);
  });

  it('are enough for a Job that runs one export and ends with its result', async () => {
    account = await applyChartAccount(api, namespace.name, { volumes: [{ ...FEDORA, once: 'nightly' }] });
    await using sink = await startHttpSink();
    await namespace.apply(diskExport('other', { http: { url: `${sink.url}/{name}` } }));
    await namespace.apply(diskExport('nightly', { http: { url: `${sink.url}/{name}` } }));
    await using well = await start('--once', 'nightly');
    assert.equal(await well.ended, 0, well.output());
    await namespace.apply(diskExport('refused', { http: { url: 'http://127.0.0.2:1/' } }));
    await using badly = await start('--once', 'refused');
    assert.equal(await badly.ended, 3, badly.output());
    assert.deepEqual(
      sink.requests.map(({ url }) => url),
      ['/nightly'],
    );
    assert.equal((await namespace.get('other'))?.status?.startTime, undefined);
    assert.equal((await namespace.get('nightly'))?.status?.phase, 'Succeeded');
    assert.deepEqual(await namespace.leases(), []);
    assert.ok(asked().length > 0);
    assert.deepEqual(
      asked().filter(({ status }) => status === 403),
      [],
    );
  });

  it('lack the rights of a feature that is off in the chart, and the sidecar reports that', async () => {
    account = await applyChartAccount(api, namespace.name, { features: { ttl: false, inUse: false } });
    assert.deepEqual(
      account.permitted.filter((each) => each === 'diskexports delete' || each.startsWith('pods ')),
      [],
    );
    await using sink = await startHttpSink();
    await using sidecar = await start();
    await succeed(diskExport('stays', { http: { url: `${sink.url}/{name}` } }, { ttlSecondsAfterFinished: 1 }));
    await until('its log names the missing right', () => /stays: [^"]*the API server does not allow it/.test(sidecar.output()));
    assert.match(sidecar.output(), /cannot be removed: delete diskexports/);
    assert.ok((await namespace.get('stays')) !== undefined);
    const refused = asked().filter(({ status }) => status === 403);
    assert.deepEqual([...new Set(refused.map(({ verb, resource }) => `${resource} ${verb}`))].sort(), ['diskexports delete', 'pods list']);
  });

  it('without the right to list pods leave the use of a Block claim unknown, and the status says why', async function () {
    await requireLoopDevices(this);
    account = await applyChartAccount(api, namespace.name, { features: { inUse: false } });
    await using loop = await attachLoopDevice(temp('volume/disk.img'));
    await using _sidecar = await namespace.start({ volumes: [`claim=${loop.path}`], flags: ['--kubeconfig', account.kubeconfig] });
    await using sink = await startHttpSink();
    await namespace.apply(diskExport('block', { http: { url: `${sink.url}/{name}` } }));
    const { phase, message, conditions = [] } = await namespace.finished('block');
    assert.deepEqual([phase, conditions.find(({ type }) => type === 'Succeeded')?.reason], ['Failed', 'InUseUnknown']);
    assert.match(message ?? '', /its Role does not let this process list the pods/);
  });

  it('do not include other objects', async () => {
    account = await applyChartAccount(api, namespace.name);
    const mayDo = async (...what: string[]): Promise<string> => {
      const { stdout } = await api.kubectl('--kubeconfig', account.kubeconfig, 'auth', 'can-i', ...what);
      return stdout.toString().trim();
    };
    const own = ['--namespace', namespace.name];
    assert.equal(await mayDo('patch', 'diskexports.disklift.dev', '--subresource', 'status', ...own), 'yes');
    for (const what of [
      ['list', 'secrets', ...own],
      ['watch', 'secrets', ...own],
      ['create', 'pods', ...own],
      ['create', 'diskexports.disklift.dev', ...own],
      ['update', 'diskexports.disklift.dev', ...own],
      ['get', 'secrets', '--namespace', 'default'],
      ['list', 'diskexports.disklift.dev', '--namespace', 'default'],
      ['list', 'diskexports.disklift.dev', '--all-namespaces'],
      ['*', '*', ...own],
    ])
      assert.equal(await mayDo(...what), 'no', what.join(' '));
  });
});
