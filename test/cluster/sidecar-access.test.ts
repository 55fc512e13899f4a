/** Access to a sidecar's pages by tokens of a real cluster. The commands are those of docs/operations.md. */

import assert from 'node:assert/strict';
import { createPrivateKey, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Sidecar } from '../helpers/sidecar.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';
import { sendApiRequest } from './api-request.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { applyChartAccount } from './chart-account.ts';
import { createNamespace, type Namespace } from './cluster-sidecar.ts';
import { installCrd } from './install-crd.ts';
import { requireBinaries, usesExistingCluster } from './kubernetes-binaries.ts';

/** All users of a cluster may get paths that begin with /api: system:discovery. */
const EXPORTS = ['/api/v1/exports', '/api/v1/exports/vms/x', '/api/v1/changes'];

describe('tokens of the cluster', function () {
  this.timeout(120_000);
  const temp = useTempDir();
  let api: ApiServer;
  let namespace: Namespace;
  let kubeconfig: string;
  const given: string[] = [];

  before(async function () {
    // The test kills this API server, and signs tokens with its key.
    if (usesExistingCluster()) return this.skip();
    api = await startApiServer(requireBinaries(this));
    await installCrd(api);
    namespace = await createNamespace(api);
    ({ kubeconfig } = await applyChartAccount(api, namespace.name));
    await kubectl('create', 'clusterrole', 'disklift-metrics', '--verb=get', '--non-resource-url=/metrics');
    await kubectl('create', 'role', 'disklift-viewer', '--verb=get,list,watch', '--resource=diskexports.disklift.dev');
    for (const name of ['prometheus', 'viewer', 'leaving', 'stranger']) await kubectl('create', 'serviceaccount', name);
    for (const name of ['prometheus', 'leaving']) await bind('disklift-metrics', name);
    const viewer = `--serviceaccount=${namespace.name}:viewer`;
    await kubectl('create', 'rolebinding', 'viewer', '--role=disklift-viewer', viewer);
  });

  after(() => api?.stop());

  async function kubectl(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await api.kubectl(...args, '--namespace', namespace.name);
    assert.equal(code, 0, stderr);
    return stdout.toString().trim();
  }

  const bind = (role: string, account: string) =>
    kubectl('create', 'clusterrolebinding', `${account}-${role}`, `--clusterrole=${role}`, `--serviceaccount=${namespace.name}:${account}`);

  async function tokenOf(account: string): Promise<string> {
    const token = await kubectl('create', 'token', account);
    given.push(token);
    return token;
  }

  /** A token with another period of validity, signed with the key of the API server. */
  function atAnotherTime(token: string, fromSeconds: number, untilSeconds: number): string {
    const [header = '', payload = ''] = token.split('.');
    const now = Math.floor(Date.now() / 1000);
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const moved = { ...claims, iat: now + fromSeconds, nbf: now + fromSeconds, exp: now + untilSeconds };
    const text = `${header}.${Buffer.from(JSON.stringify(moved)).toString('base64url')}`;
    const key = createPrivateKey(readFileSync(path.join(path.dirname(api.kubeconfig), 'sa.key')));
    const made = `${text}.${sign('sha256', Buffer.from(text), key).toString('base64url')}`;
    given.push(made);
    return made;
  }

  async function start(): Promise<Sidecar> {
    await mkdir(temp('volume'));
    return namespace.start({ volumes: [`claim=${temp('volume')}`], flags: ['--kubeconfig', kubeconfig, '--listen-token-review'] });
  }

  async function ask(sidecar: Sidecar, place: string, token?: string): Promise<number> {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(`http://127.0.0.1:${sidecar.port}${place}`, { headers });
    await response.body?.cancel();
    return response.status;
  }

  async function openToAll(sidecar: Sidecar): Promise<void> {
    for (const place of ['/livez', '/page/page.js', '/']) assert.equal(await ask(sidecar, place), 200, place);
  }

  it('are refused until the sidecar has the right to review them, and its log names the missing right', async () => {
    await using sidecar = await start();
    const token = await tokenOf('prometheus');
    assert.equal(await ask(sidecar, '/metrics', token), 503);
    assert.equal(await ask(sidecar, '/metrics', token), 503);
    const warnings = sidecar.log().filter(({ msg }) => /bound to the ClusterRole system:auth-delegator/.test(String(msg)));
    assert.equal(warnings.length, 1);
    assert.equal(await ask(sidecar, '/readyz'), 200);
    await bind('system:auth-delegator', 'disklift');
    await until('the API server applies the permission', async () => (await ask(sidecar, '/metrics', token)) === 200);
  });

  it('show metrics and exports to accounts with the right, and to no others', async () => {
    await using sidecar = await start();
    const tokens = { prometheus: await tokenOf('prometheus'), viewer: await tokenOf('viewer'), stranger: await tokenOf('stranger') };
    for (const place of ['/metrics', ...EXPORTS]) {
      assert.equal(await ask(sidecar, place), 401, place);
      assert.equal(await ask(sidecar, place, 'wrong'), 401, place);
      assert.equal(await ask(sidecar, place, tokens.stranger), 403, place);
    }
    assert.equal(await ask(sidecar, '/metrics', tokens.prometheus), 200);
    assert.equal(await ask(sidecar, '/metrics', tokens.viewer), 403);
    for (const place of EXPORTS) {
      assert.equal(await ask(sidecar, place, tokens.prometheus), 403, place);
      assert.equal(await ask(sidecar, place, tokens.viewer), place.endsWith('/x') ? 404 : 200, place);
    }
    await openToAll(sidecar);
    for (const token of given) assert.ok(!sidecar.output().includes(token.slice(-40)), 'a token in the log');
  });

  it('are refused after they expire and after their account is deleted', async () => {
    await using sidecar = await start();
    const token = await tokenOf('leaving');
    assert.equal(await ask(sidecar, '/metrics', atAnotherTime(token, -60, 600)), 200, 'signed as it should be');
    assert.equal(await ask(sidecar, '/metrics', atAnotherTime(token, -1200, -600)), 401, 'expired');
    assert.equal(await ask(sidecar, '/metrics', atAnotherTime(token, 600, 1200)), 401, 'not valid yet');
    assert.equal(await ask(sidecar, '/metrics', token), 200);
    await kubectl('delete', 'serviceaccount', 'leaving');
    // The API server and the sidecar cache the user of a token for ten seconds.
    const url = new URL('/version', api.url);
    await until('the API server refuses the token', async () => (await sendApiRequest(url, { ca: api.ca, token })).status === 401);
    await until('the sidecar refuses the token', async () => (await ask(sidecar, '/metrics', token)) === 401);
  });

  it('are refused while the API server does not answer, and accepted when it answers again', async () => {
    await using sidecar = await start();
    const token = await tokenOf('prometheus');
    assert.equal(await ask(sidecar, '/metrics', token), 200);
    const outage = api.outage ?? assert.fail();
    await outage.kill();
    const withoutServer = await ask(sidecar, '/api/v1/exports', token);
    assert.equal(withoutServer, 503, 'for a token that was not reviewed before');
    await until('the sidecar no longer accepts the token', async () => (await ask(sidecar, '/metrics', token)) === 503);
    assert.equal(await ask(sidecar, '/metrics', 'wrong'), 503);
    await openToAll(sidecar);
    await outage.restart();
    await until('the sidecar accepts the token again', async () => (await ask(sidecar, '/metrics', token)) === 200);
    assert.equal(await sidecar.stop(), 0);
  });
});
