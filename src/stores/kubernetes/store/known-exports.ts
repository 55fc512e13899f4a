/** The DiskExports as they are known here: as the reflector has them, or as an answer has told since. */

import type { ExportObject, Reflector } from '../client/contract.ts';
import { isNewer, keyOf } from './export-object.ts';

export interface KnownExports {
  get(key: string): ExportObject | undefined;
  /** What the API server has answered, which the reflector may hear of later. */
  learn(object: ExportObject): void;
}

export function createKnownExports(reflector: Pick<Reflector, 'get'>): KnownExports {
  const answers = new Map<string, ExportObject>();

  return {
    get(key) {
      const [reflected, answered] = [reflector.get(key), answers.get(key)];
      if (answered === undefined || reflected === undefined) {
        // Answers are about what the reflector has told of before: so it is gone.
        answers.delete(key);
        return reflected;
      }
      const isAhead = answered.metadata.uid === reflected.metadata.uid && isNewer(answered, reflected);
      if (!isAhead) answers.delete(key);
      return isAhead ? answered : reflected;
    },
    learn(object) {
      answers.set(keyOf(object.metadata), object);
    },
  };
}
