import assert from 'node:assert/strict';
import type { ClusterPlaces } from '../../../src/network/cluster-places.ts';
import { createDestinationPolicy } from '../../../src/network/destination-policy.ts';

const POD: ClusterPlaces = {
  scope: 'External',
  networks: [],
  serviceHost: '10.43.0.1',
  domains: ['cluster.local', 'corp.k8s'],
  nodeAddresses: ['192.168.7.5', 'fd00::5'],
  ownAddresses: ['127.0.0.1', '10.42.3.9'],
};

interface Row {
  cluster?: Partial<ClusterPlaces>;
  allow?: string[];
  host: string;
  /** A name. */
  address?: string;
  /** Undefined: it is allowed. */
  reason?: RegExp;
}

const [API, NODE, OWN, CLUSTER] = [
  /: it is the API server;/,
  /: it is the node of this pod;/,
  /: it is this pod;/,
  /: it lies in the cluster;/,
];

const ROWS: Row[] = [
  { host: '10.43.0.1', reason: API },
  { host: '[::ffff:10.43.0.1]', reason: API },
  { host: 'kubernetes.default', reason: API },
  { host: 'Kubernetes.Default.svc.', reason: API },
  { host: 'kubernetes.default.svc.corp.k8s', reason: API },
  { host: 'rebinding.example', address: '10.43.0.1', reason: API },
  { host: '192.168.7.5', reason: NODE },
  { host: '[fd00::5]', reason: NODE },
  { host: '10.42.3.9', reason: OWN },
  { host: '10.43.200.7', reason: CLUSTER },
  { host: 'minio.store.svc', reason: CLUSTER },
  { host: 'minio.store.svc.cluster.local', reason: CLUSTER },
  { host: '10-42-3-4.store.pod.cluster.local', reason: CLUSTER },
  { host: 'minio.store.svc.corp.k8s', reason: CLUSTER },
  { host: 'minio.store', address: '10.43.9.9', reason: CLUSTER },
  // On-premises servers have private addresses too.
  { host: '10.44.0.1' },
  { host: '192.168.7.6' },
  { host: 'nas.example', address: '172.16.0.9' },
  { host: 'store.corp.k8s' },
  // The length of the Services' network is known of kubeadm only.
  { cluster: { serviceHost: '10.96.0.1' }, host: '10.111.255.254', reason: CLUSTER },
  { cluster: { serviceHost: '10.96.0.1' }, host: '10.112.0.1' },
  { cluster: { serviceHost: '10.97.0.1' }, host: '10.98.0.1' },
  { cluster: { serviceHost: 'fd00:10:96::1' }, host: '[fd00:10:96::a:7]', reason: CLUSTER },
  { cluster: { serviceHost: 'fd00:10:96::1' }, host: '[fd00:10:97::1]' },
  // Networks that the operator gives replace the guess, but not the API server.
  { cluster: { networks: ['10.42.0.0/16'] }, host: '10.42.9.9', reason: CLUSTER },
  { cluster: { networks: ['10.42.0.0/16'] }, host: '10.43.9.9' },
  { cluster: { networks: ['10.42.0.0/16'] }, host: '10.43.0.1', reason: API },
  { cluster: { scope: 'Cluster' }, host: 'minio.store.svc' },
  { cluster: { scope: 'Cluster', networks: ['10.42.0.0/16'] }, host: '10.42.9.9' },
  { cluster: { scope: 'Cluster' }, host: '10.43.0.1', reason: API },
  { cluster: { scope: 'Cluster' }, host: 'api.example', address: '10.43.0.1', reason: API },
  { cluster: { scope: 'Cluster' }, host: '192.168.7.5', reason: NODE },
  { cluster: { scope: 'Cluster' }, host: '10.42.3.9', reason: OWN },
  { cluster: { scope: 'Cluster' }, host: '169.254.169.254', reason: /does not allow it$/ },
  { allow: ['minio.store.svc'], host: 'minio.store.svc', address: '10.43.9.9' },
  { allow: ['*.store.svc'], host: 'minio.store.svc' },
  { allow: ['minio.store.svc'], host: 'other.store.svc', reason: CLUSTER },
  { allow: ['192.168.7.0/24'], host: '192.168.7.5' },
  { allow: ['10.43.0.1'], host: '10.43.0.1' },
  // Outside a cluster.
  { cluster: { serviceHost: undefined, domains: [], ownAddresses: [], nodeAddresses: [] }, host: '10.43.0.1' },
  { cluster: { serviceHost: undefined, domains: [], ownAddresses: [], nodeAddresses: [] }, host: '10.96.3.4' },
];

describe('destination policy in a cluster', () => {
  for (const { cluster, allow = [], host, address, reason } of ROWS) {
    const where = `${host}${address === undefined ? '' : ` at ${address}`}`;
    const rules = `${JSON.stringify(cluster ?? {})}${allow.length === 0 ? '' : ` and ${allow} allowed`}`;
    it(`${reason === undefined ? 'allows' : 'denies'} ${where} with ${rules}`, () => {
      const policy = createDestinationPolicy({ allow, deny: [], cluster: { ...POD, ...cluster } });
      const check = () => {
        policy.checkHost(host);
        if (address !== undefined) policy.checkAddress(address, host);
      };
      if (reason === undefined) check();
      else assert.throws(check, ({ code, message }: Error & { code: string }) => code === 'DestinationNotAllowed' && reason.test(message));
    });
  }

  it('denies a host of the API server that is found out later, unless it is allowed', () => {
    const policy = createDestinationPolicy({ allow: ['10.0.0.6'], deny: [], cluster: { ...POD, scope: 'Cluster' } });
    policy.checkHost('10.0.0.5');
    policy.addApiServers(['10.0.0.5', '10.0.0.6', 'api.example']);
    assert.throws(() => policy.checkHost('10.0.0.5'), /it is the API server/);
    assert.throws(() => policy.checkHost('api.example'), /it is the API server/);
    policy.checkHost('10.0.0.6');
  });

  it('refuses a network that is not valid', () => {
    assert.throws(
      () => createDestinationPolicy({ allow: [], deny: [], cluster: { ...POD, networks: ['10.0.0.0/99'] } }),
      /"10\.0\.0\.0\/99"/,
    );
  });
});
