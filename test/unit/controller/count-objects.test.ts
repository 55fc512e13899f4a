/** Objects of the controller, counted for metrics. */

import assert from 'node:assert/strict';
import { countObjects } from '../../../src/controller/count-objects.ts';
import type { ChildResource } from '../../../src/controller/decision.ts';
import { childMetadata } from '../../../src/controller/export-objects.ts';
import type { JobObject } from '../../../src/stores/kubernetes/client/fleet-objects.ts';
import type { ExportObject, KubeObject } from '../../../src/stores/kubernetes/client/objects.ts';

type Owner = Parameters<typeof childMetadata>[0];

const metadata = (name: string) => ({ name, namespace: 'vms', uid: `uid of ${name}`, resourceVersion: '1' });

/** A child of the export of that name. */
const childOf = (exportName: string) =>
  ({
    metadata: { ...metadata('x'), ...childMetadata({ metadata: metadata(exportName) } as Owner, 'x') },
  }) as KubeObject;

function job(spec: { suspend?: boolean }, status: JobObject['status']): KubeObject {
  return { ...childOf('runs'), spec: { ...spec, template: { spec: {} } }, status } as KubeObject;
}

function count(children: Partial<Record<ChildResource, KubeObject[]>>) {
  const exports = new Map<string, ExportObject>([
    ['vms/runs', { metadata: metadata('runs'), spec: {}, status: { phase: 'Running' } }],
    ['vms/ended', { metadata: metadata('ended'), spec: {}, status: { completionTime: '2026-01-01T00:00:00Z' } }],
  ]);
  return countObjects({
    childrenOfKind: (resource) => children[resource] ?? [],
    exports: { get: (key: string) => exports.get(key), keys: () => exports.keys(), learn: () => assert.fail('not used') },
  });
}

describe('countObjects', () => {
  it('finds objects whose export has ended or is gone, and leaves out those of an export that runs', () => {
    const { objects, leftovers } = count({ volumeSnapshots: ['runs', 'ended', 'gone'].map(childOf), configMaps: [childOf('runs')] });
    const none = { jobs: 0, configMaps: 0, persistentVolumeClaims: 0, volumeSnapshots: 0, virtualMachineSnapshots: 0 };
    assert.deepEqual(objects, { ...none, volumeSnapshots: 3, configMaps: 1 });
    assert.deepEqual(leftovers, { ...none, volumeSnapshots: 2 });
  });

  it('tells suspended, pending, running and ended Jobs apart', () => {
    const ended = (type: string) => ({ conditions: [{ type, status: 'True' }] }) as NonNullable<JobObject['status']>;
    const jobs = [
      job({ suspend: true }, {}),
      job({}, undefined),
      job({}, { active: 1, ready: 0 }),
      job({}, { active: 1, ready: 1 }),
      job({ suspend: true }, ended('Failed')),
      job({}, ended('Complete')),
    ];
    assert.deepEqual(count({ jobs }).jobs, { Suspended: 1, Pending: 2, Running: 1, Ended: 2 });
  });
});
