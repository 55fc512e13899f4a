/**
 * The meaning of a map's extents. One flag has two meanings: 1 is "hole" in a map of allocation and "dirty" in a map of
 * changes. KubeVirt up to 1.8.4 knows only 0 and 1 in a map of changes; 1.9 adds 2 for zeros. No answer shows the
 * version, so the words beside the flags decide: each kind of map has a vocabulary. Extents that no vocabulary explains
 * are read and sent.
 */

import { DiskliftError } from '../../common/errors.ts';
import type { ChangedExtent } from '../changed/contract.ts';
import type { MapExtent } from './contract.ts';

const ZERO = 2;
const [CLEAN, DIRTY] = [0, 1];

/** Words that only a map of allocation has. A map of changes has none of them, and both have "zero". */
const ALLOCATION_WORDS: ReadonlySet<string> = new Set(['data', 'hole', 'hole,zero']);
/** Words that only a map of changes has. */
const CHANGE_WORDS: ReadonlySet<string> = new Set(['clean', 'dirty', 'dirty,zero']);

/** Whether the extent shows that its map is one of changes. */
export function isOfChanges({ description }: MapExtent): boolean {
  return CHANGE_WORDS.has(description);
}

export interface MapFacts {
  name: string;
  isIncremental: boolean;
  /** Whether an extent of this map {@link isOfChanges}. Without one, "zero" may be of a map of allocation. */
  hasChangeWords: boolean;
}

/**
 * @returns a changed extent wherever the map does not exclude it, and data wherever it does not show zeros
 * @throws DiskliftError `ChangesRefused` for a map of allocation where one of changes is needed: its
 * 0 is data, and reads like "unchanged"
 */
export function meaningOf({ offset, length, type, description }: MapExtent, facts: MapFacts): ChangedExtent {
  // 2 and 3 are zeros in both vocabularies. A higher bit may change the meaning of the others.
  const kind = type === ZERO || type === (ZERO | DIRTY) ? 'zeros' : 'data';
  if (!facts.isIncremental) return { offset, length, kind, isChanged: true };
  if (ALLOCATION_WORDS.has(description))
    throw new DiskliftError(
      'ChangesRefused',
      `${facts.name}: KubeVirt's export server answers with a map of allocation ("${description}" at offset ${offset}) for an incremental ` +
        'backup, and such a map shows no changes; make a new backup, or a full image of this one',
    );
  const isUnchanged = (type === CLEAN && description === 'clean') || (type === ZERO && description === 'zero' && facts.hasChangeWords);
  return { offset, length, kind, isChanged: !isUnchanged };
}
