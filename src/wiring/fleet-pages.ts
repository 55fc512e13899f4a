/** The exports and schedules for the pages of a controller, from the copies that the leader has. */

import type { DiskExport } from '../resource/disk-export.ts';
import type { ShownExports } from '../server/export-registry.ts';
import { type ExportView, exportViewOf } from '../server/export-view.ts';
import { type SchedulePage, schedulePageOf } from '../server/schedule-view.ts';
import type { ExportObject } from '../stores/kubernetes/client/objects.ts';
import { statusOf } from '../stores/kubernetes/store/export-object.ts';
import type { LeadingController } from './controller.ts';
import { shownPlaceholders } from './shown-placeholders.ts';

export interface FleetPages {
  registry: ShownExports;
  schedules(): SchedulePage;
  /** Undefined while this process leads and has listed all objects. */
  problem(): string | undefined;
  /** To be called when an export was added, changed or removed. */
  onExport(key: string): void;
}

/** @param leading undefined while this process does not lead @param lease of the leader, as NAMESPACE/NAME */
export function createFleetPages(leading: () => LeadingController | undefined, lease: { namespace: string; name: string }): FleetPages {
  const listeners = new Set<(key: string) => void>();
  // A changed export is another object, so no view is ever outdated.
  const views = new WeakMap<ExportObject, ExportView>();

  function viewOf(key: string): ExportView | undefined {
    const object = leading()?.exportOf(key);
    if (object === undefined) return undefined;
    const view = views.get(object) ?? fleetExportView(key, object);
    views.set(object, view);
    return view;
  }

  return {
    registry: {
      keys: () => leading()?.exportKeys() ?? [],
      liveKeys: () => [],
      get: viewOf,
      mapOf: () => undefined,
      onChange(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    schedules: () => schedulePageOf(leading()?.schedules() ?? []),
    problem() {
      const controller = leading();
      if (controller === undefined)
        return `this replica of the controller does not lead; kubectl --namespace ${lease.namespace} get lease ${lease.name} shows which one does`;
      return controller.hasSynced ? undefined : 'the controller has not listed all objects yet';
    },
    onExport(key) {
      for (const listener of listeners) listener(key);
    },
  };
}

/**
 * The request is not validated again: the API server did that, and the first look at thousands of exports would take
 * longer than a second. A request of a later version of disklift may have fields that this version cannot describe.
 */
function fleetExportView(key: string, object: ExportObject): ExportView {
  const status = statusOf(object);
  try {
    const stored = { kind: 'request', request: object as unknown as DiskExport } as const;
    return exportViewOf({ key, stored, status, placeholders: shownPlaceholders });
  } catch {
    const message = 'this version of disklift cannot read the request';
    return exportViewOf({ key, stored: { kind: 'invalid', message, status }, status });
  }
}
