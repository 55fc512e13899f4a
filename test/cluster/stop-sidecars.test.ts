/** `disklift stop-sidecars` on a real API server, with only the rights of the chart's hook. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { CHART, FEDORA, MINIMAL, parseManifests, WINDOWS } from '../helpers/chart.ts';
import { disklift } from '../helpers/disklift.ts';
import { isOfHook, type Workload } from '../helpers/helm-pods.ts';
import { helmTools } from '../helpers/helm-tools.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { type AuditedApiServer, startAuditedApiServer } from './audited-api-server.ts';
import { applyChartAccount } from './chart-account.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';

const SCHEDULE = { cron: '0 1 * * *', spec: { destination: { http: { url: 'http://sink.example/{date}' } } } };
const VALUES = { ...MINIMAL, volumes: [FEDORA, { ...WINDOWS, once: 'nightly' }, { ...FEDORA, name: 'nights', schedule: SCHEDULE }] };

describe('stop-sidecars', function () {
  this.timeout(60_000);
  const temp = useTempDir();
  let api: AuditedApiServer;
  let namespace: Namespace;

  before(async function () {
    api = await startAuditedApiServer(this);
    namespace = await createNamespace(api);
  });

  after(async () => {
    await api?.stop();
  });

  /** @returns the arguments of the hook's container, and the names of the objects that it stops */
  async function applyWorkloads(): Promise<{ args: string[]; deployment: string; job: string }> {
    writeFileSync(temp('values.json'), JSON.stringify(VALUES));
    const rendered = await helmTools().helm('template', 'disklift', CHART, '-n', namespace.name, '--values', temp('values.json'));
    const workloads = parseManifests(rendered.stdout.toString()).filter(({ kind }) =>
      ['Deployment', 'Job', 'CronJob'].includes(kind),
    ) as Workload[];
    const [deployment, job, cronJob, hook, ...others] = workloads;
    assert.deepEqual(others, []);
    if (deployment === undefined || job === undefined || hook === undefined || !isOfHook(hook.metadata)) return assert.fail();
    writeFileSync(temp('workloads.json'), JSON.stringify({ apiVersion: 'v1', kind: 'List', items: [deployment, job, cronJob] }));
    const { code, stderr } = await api.kubectl('apply', '--filename', temp('workloads.json'));
    assert.equal(code, 0, stderr);
    for (const { metadata, spec } of [deployment, job]) await createPod(metadata.name, spec.template.metadata.labels);
    return { args: hook.spec.template.spec.containers[0]?.args ?? [], deployment: deployment.metadata.name, job: job.metadata.name };
  }

  /** No controller makes or deletes pods here. */
  async function createPod(name: string, labels: Record<string, string>): Promise<void> {
    const spec = { automountServiceAccountToken: false, containers: [{ name: 'disklift', image: 'x' }] };
    const { status, body } = await namespace.request('pods', { method: 'POST', body: { metadata: { name, labels }, spec } });
    assert.equal(status, 201, JSON.stringify(body));
  }

  async function specOf(group: string, place: string): Promise<Record<string, unknown>> {
    return (await api.request(`/apis/${group}/v1/namespaces/${namespace.name}/${place}`)).body.spec;
  }

  it('stops the workloads of the chart, waits for their pods and no others, and uses every right of the hook', async () => {
    const account = await applyChartAccount(api, namespace.name, VALUES, { of: 'stop-sidecars' });
    const { args, deployment, job } = await applyWorkloads();
    const labels = { 'app.kubernetes.io/name': 'disklift', 'app.kubernetes.io/instance': 'disklift' };
    await createPod('of-the-hook', labels);
    await createPod('of-another', { ...labels, 'app.kubernetes.io/instance': 'weekly', 'disklift.dev/volume': 'fedora' });
    let hasEnded = false;
    const ending = disklift([...args, '--kubeconfig', account.kubeconfig]).finally(() => {
      hasEnded = true;
    });
    const looks = () => api.askedBy(account.user).filter(({ resource }) => resource === 'pods').length;
    await until('it has checked twice', () => looks() > 1);
    assert.equal((await specOf('apps', `deployments/${deployment}`)).replicas, 0);
    assert.equal((await specOf('batch', `jobs/${job}`)).suspend, true);
    assert.equal((await specOf('batch', 'cronjobs/disklift-nights')).suspend, true);
    await namespace.request(`pods/${deployment}?gracePeriodSeconds=0`, { method: 'DELETE' });
    const before = looks();
    await until('it has checked again', () => looks() > before + 1);
    assert.ok(!hasEnded, 'one pod is still there');
    await namespace.request(`pods/${job}?gracePeriodSeconds=0`, { method: 'DELETE' });
    assert.deepEqual(await ending.then(({ code, stderr }) => [code, stderr]), [0, '']);
    const asked = api.askedBy(account.user);
    assert.deepEqual([...new Set(asked.map(({ resource, verb }) => `${resource} ${verb}`))].sort(), account.permitted);
    assert.ok(asked.every(({ status }) => status === 200));
  });
});
