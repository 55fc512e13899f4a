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

  it('serves metrics and probes, and neither the page nor the API of exports', async () => {
    const tokenFile = temp('token');
    writeFileSync(tokenFile, 'secret-of-the-scraper\n');
    await using service = await start(`controller-${randomUUID().slice(0, 8)}`, '--listen-token-file', tokenFile);
    for (const place of ['/', '/page/page.js', '/api/v1/exports']) assert.equal((await service.get(place)).status, 404, place);
    assert.equal((await service.get('/metrics')).status, 401);
    const headers = { authorization: 'Bearer secret-of-the-scraper' };
    const text = await (await fetch(`http://127.0.0.1:${service.port}/metrics`, { headers })).text();
    assert.match(text, /^disklift_build_info\{version="[^"]+"\} 1$/m);
    assert.match(text, /^process_resident_memory_bytes \d/m);
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
