/** Facts in a Lease about the process that holds it. The next process of the same container then need not wait for it to run out. */

import { fateOf, type ProcessIdentity, thisProcess } from '../../process-identity.ts';
import type { LeaseObject } from '../client/contract.ts';

const ANNOTATION = 'disklift.dev/holder';

/** Bound to the Lease's own holder: a version that does not know the annotation may take the Lease over and leave it there. */
interface HolderNote extends ProcessIdentity {
  holder: string;
  instance: string;
}

export interface LeaseHolder {
  /** To be merged into those of a Lease that this process takes. */
  annotations(): Promise<Record<string, string>>;
  /** Whether the Lease's holder is a predecessor of this process that has provably ended. False where nothing proves it. */
  hasEnded(lease: LeaseObject): Promise<boolean>;
}

export interface LeaseHolderOptions {
  /** This process, as its Leases name it. */
  holder: string;
  /** Name of its pod. Only a predecessor of that name is looked for. */
  instance: string;
  /** Left out: this process. */
  identify?: () => Promise<ProcessIdentity>;
}

export function createLeaseHolder({ holder, instance, identify = thisProcess }: LeaseHolderOptions): LeaseHolder {
  let identity: Promise<ProcessIdentity> | undefined;
  const own = () => {
    identity ??= identify();
    return identity;
  };
  return {
    async annotations() {
      const note: HolderNote = { holder, instance, ...(await own()) };
      return { [ANNOTATION]: JSON.stringify(note) };
    },
    async hasEnded({ metadata, spec }) {
      const note = parseNote(metadata.annotations?.[ANNOTATION]);
      if (note === undefined || note.holder !== spec?.holderIdentity || note.instance !== instance) return false;
      return (await fateOf(note, await own())) === 'ended';
    },
  };
}

function parseNote(text: string | undefined): HolderNote | undefined {
  try {
    const note: unknown = JSON.parse(text ?? '');
    return typeof note === 'object' && note !== null ? (note as HolderNote) : undefined;
  } catch {
    return undefined;
  }
}
