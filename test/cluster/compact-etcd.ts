/**
 * Drops the history of an etcd, which a cluster does every five minutes.
 * https://etcd.io/docs/latest/dev-guide/api_grpc_gateway/
 */

import assert from 'node:assert/strict';

/** @param url of etcd */
export async function compactEtcd(url: string): Promise<void> {
  async function ask(path: string, body: object): Promise<{ header: { revision: string } }> {
    const answer = await fetch(`${url}/v3/kv/${path}`, { method: 'POST', body: JSON.stringify(body) });
    assert.equal(answer.status, 200, `etcd: ${path}`);
    return (await answer.json()) as { header: { revision: string } };
  }

  const { header } = await ask('range', { key: Buffer.from('any').toString('base64') });
  await ask('compaction', { revision: header.revision, physical: true });
}
