/**
 * Registry of all exports that the store reports, for the pages. It observes the engine and never changes an export.
 */

import type { Clock } from '../common/clock.ts';
import type { ExportWatcher, ObservedRequest, RequestObserver } from '../engine/observer.ts';
import type { DiskExportStatus } from '../resource/disk-export.ts';
import { type ExportView, exportViewOf, type PlaceholderSource } from './export-view.ts';
import { createLiveExport, type DiskMapView, type LiveExport } from './live-export.ts';

/** The exports that the page and its API show. Keys are `NAMESPACE/NAME`. */
export interface ShownExports {
  keys(): Iterable<string>;
  /** Keys of exports that run in this process. */
  liveKeys(): Iterable<string>;
  get(key: string): ExportView | undefined;
  /** Undefined when the map is not known, as for a disk that another process has scanned. */
  mapOf(key: string, disk: string): DiskMapView | undefined;
  /** @param listener called with the key for each change: often @returns removes the listener */
  onChange(listener: (key: string) => void): () => void;
}

export interface ExportRegistry extends ShownExports, Required<Pick<RequestObserver, 'onRead' | 'onStatus'>> {
  onBegin(key: string): ExportWatcher;
}

interface Entry {
  stored: ObservedRequest;
  status: DiskExportStatus | undefined;
  live?: LiveExport | undefined;
  /** The run has ended here, and its final status is about to be written. */
  hasEnded?: boolean;
  /** Cached while the export does not run here. */
  view?: ExportView | undefined;
}

/** Maps that are kept of disks that have ended: 12 KiB each. */
const MAX_MAPS = 256;

/** @param placeholders when left out, destinations are shown with their placeholders */
export function createExportRegistry(clock: Pick<Clock, 'monotonicMs'>, placeholders?: PlaceholderSource): ExportRegistry {
  const entries = new Map<string, Entry>();
  const listeners = new Set<(key: string) => void>();
  /** The oldest first. */
  const maps = new Map<string, DiskMapView>();

  function changed(key: string, entry?: Entry): void {
    if (entry !== undefined) entry.view = undefined;
    for (const listener of listeners) listener(key);
  }

  function keepMaps(key: string, live: LiveExport): void {
    for (const path of live.paths()) {
      const map = live.mapOf(path);
      if (map === undefined) continue;
      maps.delete(mapKey(key, path));
      maps.set(mapKey(key, path), map);
    }
    for (const oldest of maps.keys()) if (maps.size > MAX_MAPS) maps.delete(oldest);
  }

  return {
    onRead(key, stored) {
      const entry = entries.get(key);
      if (stored === undefined) {
        // A deleted export is shown until its run has ended.
        if (entry?.live !== undefined && entry.hasEnded !== true) return;
        if (entries.delete(key)) changed(key);
        return;
      }
      const status = stored.kind === 'invalid' ? stored.status : stored.request.status;
      const next: Entry = { ...entry, stored, status: status ?? (entry?.live === undefined ? undefined : entry.status) };
      entries.set(key, next);
      changed(key, next);
    },
    onStatus(key, status) {
      const entry = entries.get(key);
      if (entry === undefined) return;
      entry.status = status;
      if (entry.hasEnded) entry.live = undefined;
      changed(key, entry);
    },
    onBegin(key) {
      const live = createLiveExport(
        () => clock.monotonicMs(),
        () => changed(key),
      );
      const entry = entries.get(key);
      if (entry !== undefined) Object.assign(entry, { live, hasEnded: false, view: undefined });
      return {
        observer: live.observer,
        end(result) {
          keepMaps(key, live);
          const ended = entries.get(key);
          if (ended?.live !== live) return;
          ended.hasEnded = true;
          // This process writes no final status.
          if (result === 'Pending') ended.live = undefined;
          changed(key, ended);
        },
      };
    },
    keys: () => entries.keys(),
    liveKeys: () => [...entries].filter(([, { live }]) => live !== undefined).map(([key]) => key),
    get(key) {
      const entry = entries.get(key);
      if (entry === undefined) return undefined;
      const { stored, status, live } = entry;
      if (live !== undefined) return exportViewOf({ key, stored, status, liveDisks: live.disks(), placeholders });
      entry.view ??= exportViewOf({ key, stored, status, placeholders });
      return entry.view;
    },
    mapOf: (key, disk) => entries.get(key)?.live?.mapOf(disk) ?? (entries.has(key) ? maps.get(mapKey(key, disk)) : undefined),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

function mapKey(key: string, path: string): string {
  return `${key}/${path}`;
}
