/** All exports that the store of requests tells of, as they stand: for those who look, never for those who run them. */

import type { Clock } from '../common/clock.ts';
import type { ExportWatcher } from '../engine/observer.ts';
import type { DiskExportStatus } from '../resource/disk-export.ts';
import type { StoredRequest } from '../stores/contract.ts';
import { type ExportView, exportViewOf, type PlaceholderSource } from './export-view.ts';
import { createLiveExport, type DiskMapView, type LiveExport } from './live-export.ts';

/** Keys are `NAMESPACE/NAME`. */
export interface ExportBoard {
  /** What the store holds now; undefined when it is gone. */
  set(key: string, stored: StoredRequest | undefined): void;
  /** A status was written. */
  setStatus(key: string, status: DiskExportStatus): void;
  /** The export runs here from now on. */
  begin(key: string): ExportWatcher;
  keys(): Iterable<string>;
  /** Of exports that run here. */
  liveKeys(): Iterable<string>;
  get(key: string): ExportView | undefined;
  /** Undefined where it is not known, as when another process has scanned the disk. */
  mapOf(key: string, disk: string): DiskMapView | undefined;
  /** @param listener called with a key each time that something has changed about it: often @returns takes it away again */
  onChange(listener: (key: string) => void): () => void;
}

interface Entry {
  stored: StoredRequest;
  status: DiskExportStatus | undefined;
  live?: LiveExport | undefined;
  /** It has ended here, and its last status is about to be written. */
  hasEnded?: boolean;
  /** Of an export that does not run here. */
  view?: ExportView | undefined;
}

/** Disks that have ended and whose pictures are kept: 12 KiB each. */
const MOST_PICTURES = 256;

/** @param placeholders left out, destinations are shown as the requests have them */
export function createExportBoard(clock: Pick<Clock, 'monotonicMs'>, placeholders?: PlaceholderSource): ExportBoard {
  const entries = new Map<string, Entry>();
  const listeners = new Set<(key: string) => void>();
  /** The oldest first. */
  const pictures = new Map<string, DiskMapView>();

  function changed(key: string, entry?: Entry): void {
    if (entry !== undefined) entry.view = undefined;
    for (const listener of listeners) listener(key);
  }

  function keepPictures(key: string, live: LiveExport): void {
    for (const path of live.paths()) {
      const picture = live.mapOf(path);
      if (picture === undefined) continue;
      pictures.delete(pictureKey(key, path));
      pictures.set(pictureKey(key, path), picture);
    }
    for (const oldest of pictures.keys()) if (pictures.size > MOST_PICTURES) pictures.delete(oldest);
  }

  return {
    set(key, stored) {
      const entry = entries.get(key);
      if (stored === undefined) {
        // What still runs of it is told until it has ended.
        if (entry?.live !== undefined && entry.hasEnded !== true) return;
        if (entries.delete(key)) changed(key);
        return;
      }
      const status = stored.kind === 'invalid' ? stored.status : stored.request.status;
      const next: Entry = { ...entry, stored, status: status ?? (entry?.live === undefined ? undefined : entry.status) };
      entries.set(key, next);
      changed(key, next);
    },
    setStatus(key, status) {
      const entry = entries.get(key);
      if (entry === undefined) return;
      entry.status = status;
      if (entry.hasEnded) entry.live = undefined;
      changed(key, entry);
    },
    begin(key) {
      const live = createLiveExport(
        () => clock.monotonicMs(),
        () => changed(key),
      );
      const entry = entries.get(key);
      if (entry !== undefined) Object.assign(entry, { live, hasEnded: false, view: undefined });
      return {
        observer: live.observer,
        end(result) {
          keepPictures(key, live);
          const ended = entries.get(key);
          if (ended?.live !== live) return;
          ended.hasEnded = true;
          // Nothing more will be written about it here.
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
    mapOf: (key, disk) => entries.get(key)?.live?.mapOf(disk) ?? (entries.has(key) ? pictures.get(pictureKey(key, disk)) : undefined),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

function pictureKey(key: string, path: string): string {
  return `${key}/${path}`;
}
