/** `disklift controller` as processes on an API server: one leads, the next takes over. */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { disklift } from '../helpers/disklift.ts';
import { type Service, startService } from '../helpers/service.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import type { ApiServer } from './api-server.ts';
import { installCrd } from './install-crd.ts';
import { useApiServer } from './use-api-server.ts';

const DURATION_SECONDS = 4;

describe('the process of the controller', function () {
  this.timeout(120_000);
  const temp = useTempDir();
  let server: ApiServer;

  before(async function () {
    server = await useApiServer(this);
    await installCrd(server);
    await installCrd(server, 'crd-schedules.yaml');
  });

  function start(lease: string, ...flags: string[]): Promise<Service> {
    const args = [
      'controller',
      '--kubeconfig',
      server.kubeconfig,
      '--leader-election-namespace',
      'default',
      '--leader-election-lease',
      lease,
    ];
    const limits = ['--lease-duration-seconds', String(DURATION_SECONDS), '--listen-host', '127.0.0.1', '--listen-port', '0'];
    return startService({ args: [...args, ...limits, '--worker-image', 'disklift:test', ...flags], startMessage: 'controller runs' });
  }

  const leads = async (service: Service) => (await service.metrics()).get('disklift_controller_leader') === 1;
  const isReady = async (service: Service) => (await service.get('/readyz')).status === 200;

  async function holderOf(lease: string): Promise<string | undefined> {
    return (await server.request(`/apis/coordination.k8s.io/v1/namespaces/default/leases/${lease}`)).body.spec?.holderIdentity;
  }

  it('hands over at once when the leader is stopped, and after the Lease has expired when it is killed', async () => {
    const lease = `controller-${randomUUID().slice(0, 8)}`;
    await using first = await start(lease, '--pod-name', 'first');
    await until('the first leads', () => leads(first));
    await until('the first is ready', () => isReady(first));
    assert.match((await holderOf(lease)) ?? '', /^first_/);
    await using second = await start(lease, '--pod-name', 'second');
    await until('the waiting process is ready', () => isReady(second));
    assert.equal(await leads(second), false);
    assert.match(await (await second.get('/livez')).text(), /^ok: event loop delay/);

    let startMs = performance.now();
    assert.equal(await first.stop(), 0);
    await until('the second leads', () => leads(second));
    assert.ok(performance.now() - startMs < 3000, `${performance.now() - startMs} ms`);
    assert.match((await holderOf(lease)) ?? '', /^second_/);

    await using third = await start(lease, '--pod-name', 'third');
    await until('the waiting process is ready', () => isReady(third));
    startMs = performance.now();
    await second.stop('SIGKILL');
    await until('the third leads', () => leads(third));
    const takenMs = performance.now() - startMs;
    assert.ok(takenMs > (DURATION_SECONDS * 1000 * 2) / 3 && takenMs < 3 * DURATION_SECONDS * 1000, `${takenMs} ms`);
    assert.equal(await third.stop(), 0);
    assert.equal(await holderOf(lease), undefined);
    const problems = [first, third].flatMap((service) => service.log().filter(({ level }) => level === 'warn' || level === 'error'));
    assert.deepEqual(
      problems.filter(({ msg }) => !/^the CRD \S+ is not installed/.test(String(msg))),
      [],
    );
  });

  it('stops leading when it was stopped for longer than its Lease holds, and leads again later', async () => {
    const lease = `controller-${randomUUID().slice(0, 8)}`;
    await using first = await start(lease, '--pod-name', 'first');
    await until('the first leads', () => leads(first));
    await using second = await start(lease, '--pod-name', 'second');
    first.process.kill('SIGSTOP');
    try {
      await until('the second leads', () => leads(second));
    } finally {
      first.process.kill('SIGCONT');
    }
    await until('the first does not lead', async () => !(await leads(first)));
    assert.equal(await leads(second), true);
    await until('the first is ready', () => isReady(first));
    assert.equal(await second.stop(), 0);
    await until('the first leads again', () => leads(first));
  });

  it('serves metrics, and shows its exports and schedules to clients with its token, the leader alone', async () => {
    const tokenFile = temp('token');
    writeFileSync(tokenFile, 'secret-of-the-scraper\n');
    const lease = `controller-${randomUUID().slice(0, 8)}`;
    await using service = await start(lease, '--listen-token-file', tokenFile);
    const headers = { authorization: 'Bearer secret-of-the-scraper' };
    const get = (place: string, { port } = service) => fetch(`http://127.0.0.1:${port}${place}`, { headers });
    const guarded = ['/metrics', '/api/v1/exports', '/api/v1/exports/default/first', '/api/v1/schedules', '/api/v1/changes'];
    for (const place of guarded) assert.equal((await service.get(place)).status, 401, place);
    assert.equal((await service.get('/')).status, 200);
    const text = await (await get('/metrics')).text();
    assert.match(text, /^disklift_build_info\{version="[^"]+"\} 1$/m);
    assert.match(text, /^process_resident_memory_bytes \d/m);

    await until('it leads and has listed all objects', async () => (await get('/api/v1/exports')).status === 200);
    const spec = {
      source: { persistentVolumeClaim: { claimName: 'not-there' } },
      destination: { http: { url: 'http://backup.example/{disk}' } },
    };
    const api = '/apis/disklift.dev/v1alpha1/namespaces/default';
    const type = { apiVersion: 'disklift.dev/v1alpha1', kind: 'DiskExport' };
    await server.request(`${api}/diskexports`, { method: 'POST', body: { ...type, metadata: { name: 'first' }, spec } });
    const body = {
      ...type,
      kind: 'DiskExportSchedule',
      metadata: { name: 'yearly' },
      spec: { schedule: '@yearly', exportTemplate: { spec } },
    };
    await server.request(`${api}/diskexportschedules`, { method: 'POST', body });
    const json = async (place: string) => (await (await get(place)).json()) as Record<string, never> & { items: Record<string, unknown>[] };
    await until('it shows the export with its reason', async () => (await json('/api/v1/exports/default/first')).reason !== 'Unclaimed');
    const { items, hasSchedules, total } = await json('/api/v1/exports');
    assert.deepEqual([total, hasSchedules, items[0]?.name, items[0]?.phase, items[0]?.claim], [1, true, 'first', 'Pending', 'not-there']);
    assert.match(String(items[0]?.message), /not-there/);
    assert.deepEqual(items[0]?.destination, { kind: 'HTTP', address: 'http://backup.example/{disk}' });
    await until('it shows the schedule', async () => (await json('/api/v1/schedules')).items[0]?.reason === 'NoSuccessYet');
    const [schedule] = (await json('/api/v1/schedules')).items;
    assert.equal(schedule?.schedule, '@yearly');
    assert.match(String(schedule?.nextScheduleTime), /^\d{4}-01-01T00:00:00Z$/);

    await using other = await start(lease, '--listen-token-file', tokenFile);
    await until('the waiting process is ready', () => isReady(other));
    for (const place of guarded.slice(1)) {
      const refused = await get(place, other);
      assert.equal(refused.status, 503, place);
      assert.match(await refused.text(), new RegExp(`get lease ${lease} shows which one does`));
    }
    for (const place of ['diskexports/first', 'diskexportschedules/yearly']) await server.request(`${api}/${place}`, { method: 'DELETE' });
    await until('the export is gone', async () => (await json('/api/v1/exports')).total === 0);
  });

  it('retries while it may not use the Lease, is not ready meanwhile and ends on a signal', async () => {
    const { status, body } = await server.request('/api/v1/namespaces/default/serviceaccounts', {
      method: 'POST',
      body: { metadata: { name: `powerless-${randomUUID().slice(0, 8)}` } },
    });
    assert.equal(status, 201);
    const { name } = body.metadata;
    const request = { method: 'POST', body: { spec: {} } } as const;
    const token = await server.request(`/api/v1/namespaces/default/serviceaccounts/${name}/token`, request);
    const kubeconfig = temp('kubeconfig');
    const user = { name: 'powerless', user: { token: token.body.status.token } };
    const cluster = { server: server.url, 'certificate-authority-data': Buffer.from(server.ca).toString('base64') };
    const context = { name: 'powerless', context: { cluster: 'test', user: 'powerless' } };
    const clusters = [{ name: 'test', cluster }];
    writeFileSync(kubeconfig, JSON.stringify({ 'current-context': 'powerless', users: [user], clusters, contexts: [context] }));
    await using service = await start('controller-forbidden', '--kubeconfig', kubeconfig);
    await until('a warning', () => /cannot get resource/.test(service.output()));
    const ready = await service.get('/readyz');
    assert.equal(ready.status, 503);
    assert.match(await ready.text(), /get leases default\/controller-forbidden: the API server does not allow it/);
    assert.equal((await service.get('/livez')).status, 200);
    assert.equal(await service.stop(), 0);
  });

  it('refuses settings without an image, and a job template with an unknown field', async () => {
    const kubeconfig = ['--kubeconfig', server.kubeconfig];
    const withoutImage = await disklift(['controller', ...kubeconfig]);
    assert.equal(withoutImage.code, 2);
    assert.match(withoutImage.stderr, /^disklift: the image of the workers is unknown; use --worker-image IMAGE\n$/);
    writeFileSync(temp('template.yaml'), 'nodeSelectors: {a: b}\n');
    const flags = ['--worker-image', 'disklift', '--job-template-file', temp('template.yaml')];
    const unknownField = await disklift(['controller', ...kubeconfig, ...flags]);
    assert.equal(unknownField.code, 2);
    assert.match(unknownField.stderr, /template\.yaml: nodeSelectors is unknown; the fields are labels, /);
    const missing = await disklift(['controller', ...kubeconfig, '--worker-image', 'disklift', '--job-template-file', temp('none.yaml')]);
    assert.equal(missing.code, 2);
    assert.match(missing.stderr, /^disklift: .*none\.yaml.*ENOENT.*\n$/);
  });
});
