/** Places of the exports that run at a time: first come, first served, also when one that has left its place comes back. */

import { abortable, throwIfAborted } from '../common/abortable.ts';

export interface Place {
  /**
   * Waits until it is this one's turn among those that wait.
   * @throws DiskliftError what `signal` was aborted with; then no place is held
   */
  enter(signal: AbortSignal): Promise<void>;
  /** Gives the place back, or no longer waits for one. Does nothing where neither is so. */
  leave(): void;
}

export interface Places {
  /** Turns are given in the order of these calls, and kept: who has left goes in front of all who have come later. */
  takeTurn(): Place;
  /** Whether somebody waits. */
  isWanted(): boolean;
}

interface Waiting {
  turn: number;
  grant(): void;
}

/** @param total 1 and more */
export function createPlaces(total: number): Places {
  let free = total;
  let turns = 0;
  /** By their turns. */
  const waiting: Waiting[] = [];

  function grantAll(): void {
    while (free > 0) {
      const next = waiting.shift();
      if (next === undefined) return;
      free -= 1;
      next.grant();
    }
  }

  function takeTurn(): Place {
    turns += 1;
    const turn = turns;
    let isHeld = false;

    function leave(): void {
      const index = waiting.findIndex((each) => each.turn === turn);
      if (index >= 0) waiting.splice(index, 1);
      if (!isHeld) return;
      isHeld = false;
      free += 1;
      grantAll();
    }

    async function enter(signal: AbortSignal): Promise<void> {
      throwIfAborted(signal);
      const { promise, resolve } = Promise.withResolvers<void>();
      const grant = () => {
        isHeld = true;
        resolve();
      };
      waiting.push({ turn, grant });
      waiting.sort((a, b) => a.turn - b.turn);
      grantAll();
      try {
        await abortable(promise, signal);
      } catch (error) {
        leave();
        throw error;
      }
    }

    return { enter, leave };
  }

  return { takeTurn, isWanted: () => waiting.length > 0 };
}
