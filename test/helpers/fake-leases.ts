/**
 * Leases in memory, as strict about versions as the API server is, and with faults that it does not produce on demand.
 */

import { refusedError, unusableError } from '../../src/stores/kubernetes/client/api-failure.ts';
import type { KubeResource, ObjectName, Unsaved } from '../../src/stores/kubernetes/client/contract.ts';
import type { LeaseObject } from '../../src/stores/kubernetes/client/objects.ts';

type Operation = 'get' | 'create' | 'replace' | 'remove';

export interface FakeLeases extends KubeResource<LeaseObject> {
  readonly objects: Map<string, LeaseObject>;
  readonly calls: Operation[];
  /** Awaited before a call is carried out; an error of it is the answer. */
  before: (operation: Operation) => Promise<void> | void;
  /** Awaited after a call is carried out; an error of it replaces the answer, which is lost. */
  after: (operation: Operation) => Promise<void> | void;
}

const STATUS = { NotFound: 404, AlreadyExists: 409, Conflict: 409, Forbidden: 403 };

export function refused(reason: keyof typeof STATUS): Error {
  return refusedError({ what: 'a call', status: STATUS[reason], body: JSON.stringify({ reason, message: reason }) }, 0);
}

export function unanswered(): Error {
  return unusableError('a call', 'no answer');
}

export function createFakeLeases(): FakeLeases {
  const objects = new Map<string, LeaseObject>();
  const calls: Operation[] = [];
  let version = 0;
  const keyOf = ({ namespace, name }: ObjectName) => `${namespace}/${name}`;

  async function call<T>(operation: Operation, act: () => T): Promise<T> {
    calls.push(operation);
    await fake.before(operation);
    const result = structuredClone(act());
    await fake.after(operation);
    return result;
  }

  function save(lease: Unsaved<LeaseObject>, uid: string): LeaseObject {
    version += 1;
    const saved = structuredClone({ ...lease, metadata: { ...lease.metadata, uid, resourceVersion: String(version) } });
    objects.set(keyOf(saved.metadata), saved);
    return saved;
  }

  const unused = () => {
    throw new Error('is not used');
  };

  const fake: FakeLeases = {
    description: { group: 'coordination.k8s.io', version: 'v1', kind: 'Lease', plural: 'leases' },
    objects,
    calls,
    before: () => {},
    after: () => {},
    get: (target) => call('get', () => objects.get(keyOf(target))),
    create: (lease) =>
      call('create', () => {
        if (objects.has(keyOf(lease.metadata))) throw refused('AlreadyExists');
        return save(lease, `uid-${version}`);
      }),
    replace: (lease) =>
      call('replace', () => {
        const there = objects.get(keyOf(lease.metadata));
        if (there === undefined) throw refused('NotFound');
        const { uid, resourceVersion } = there.metadata;
        if (lease.metadata.uid !== uid || lease.metadata.resourceVersion !== resourceVersion) throw refused('Conflict');
        return save(lease, uid);
      }),
    remove: (target, { uid, resourceVersion } = {}) =>
      call('remove', () => {
        const there = objects.get(keyOf(target));
        if (there === undefined) return false;
        if (uid !== undefined && uid !== there.metadata.uid) throw refused('Conflict');
        if (resourceVersion !== undefined && resourceVersion !== there.metadata.resourceVersion) throw refused('Conflict');
        return objects.delete(keyOf(target));
      }),
    list: unused,
    patch: unused,
    watch: unused,
  };
  return fake;
}
