/** A store of requests that a board learns from, as whoever serves them learns from it: nothing is asked for twice. */

import type { RequestStore } from '../stores/contract.ts';
import type { ExportBoard } from './export-board.ts';

/** @returns the same store */
export function createBoardStore(store: RequestStore, board: Pick<ExportBoard, 'set' | 'setStatus'>): RequestStore {
  return {
    showsUnclaimed: store.showsUnclaimed,
    watch: (signal) => store.watch(signal),
    async get(key) {
      const stored = await store.get(key);
      board.set(key, stored);
      return stored;
    },
    claim: (key) => store.claim(key),
    async writeStatus(key, status) {
      // Also when it cannot be kept: it is what is so.
      board.setStatus(key, status);
      await store.writeStatus(key, status);
    },
    setCleanupPending: (key, pending) => store.setCleanupPending(key, pending),
    async remove(key) {
      await store.remove(key);
      board.set(key, undefined);
    },
    resolve: (reference) => store.resolve(reference),
    recordEvent: (key, event) => store.recordEvent(key, event),
  };
}
