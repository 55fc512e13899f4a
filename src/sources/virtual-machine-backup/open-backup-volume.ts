/** One volume of a KubeVirt backup in pull mode as a disk, with the map of what has changed since a checkpoint. */

import { throwIfAborted } from '../../common/abortable.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { ChangedExtent, TrackedSource } from '../changed/contract.ts';
import { digestOfChanges } from '../changed/digest.ts';
import { wholeMap } from '../changed/whole-map.ts';
import type { SourceExtent, SourceIdentity } from '../contract.ts';
import { ExtentJoiner } from '../file-extents.ts';
import { isOfChanges, type MapFacts, meaningOf } from './map-words.ts';
import { createPullClient, type PullClient, type PullClientOptions } from './pull-client.ts';

export interface OpenBackupVolumeOptions extends PullClientOptions {
  /** Aborts the opening only. */
  signal: AbortSignal;
  /**
   * Facts of the backup itself, read anew at each call: a backup that was made again under its name has the same URLs,
   * token and certificate, and another point in time. @throws DiskliftError where the backup has ended
   */
  identify(signal: AbortSignal): Promise<SourceIdentity>;
}

/**
 * The server is closed with the source.
 * @throws DiskliftError `SourceReadError`, `SourcePermissionDenied`, `SourceNotFound`, `DestinationNotAllowed`,
 * `Cancelled`
 */
export async function openBackupVolume(options: OpenBackupVolumeOptions): Promise<TrackedSource> {
  const { name, isIncremental, server, signal, identify } = options;
  const client = createPullClient(options);
  const closed = new AbortController();
  try {
    const survey = await surveyMap(client, name, signal);
    const { sizeBytes } = survey;
    const facts: MapFacts = { name, isIncremental: false, hasChangeWords: survey.hasChangeWords };
    const changed = isIncremental
      ? { extents: (until: AbortSignal) => mapExtents(client, { ...facts, isIncremental }, { sizeBytes, signal: until }) }
      : undefined;
    return {
      name,
      sizeBytes,
      changed,
      extents: (until) => joined(mapExtents(client, facts, { sizeBytes, signal: until })),
      async read(buffer, offset, until) {
        throwIfAborted(until);
        const end = offset + buffer.length;
        // The server would cut the answer at the end of the disk.
        if (end > sizeBytes) throw new DiskliftError('SourceChanged', `${name}: ends at offset ${sizeBytes}, before ${end}`);
        await client.read(buffer, offset, until);
      },
      identity: async () => ({
        ...(await identify(closed.signal)),
        size: `${sizeBytes}`,
        ...(changed === undefined ? {} : { changes: await digestOfChanges(changed.extents(closed.signal)) }),
      }),
      async dispose() {
        closed.abort(new DiskliftError('Cancelled', 'closed'));
        server.close();
      },
    };
  } catch (error) {
    server.close();
    throw error;
  }
}

interface Survey {
  sizeBytes: number;
  hasChangeWords: boolean;
}

/**
 * Goes through the map once, because only its end shows the size of the disk. A map may lack its last part, so a read
 * around its end proves the size. Gaps do not matter here; they do when the map is used.
 */
async function surveyMap(client: PullClient, name: string, signal: AbortSignal): Promise<Survey> {
  let hasChangeWords = false;
  for (let at = 0; ; ) {
    const { extents, nextOffset } = await client.askMap(at, 0, signal);
    hasChangeWords ||= extents.some(isOfChanges);
    const last = extents.at(-1);
    const end = last === undefined ? at : last.offset + last.length;
    const isLast = nextOffset === undefined;
    if (isLast && end > 0 && (await client.endsAt(end, signal))) return { sizeBytes: end, hasChangeWords };
    if (end <= at)
      throw new DiskliftError('SourceReadError', `${name}: the map ends at offset ${at}, and the disk does not; make a new backup`);
    at = end;
  }
}

function mapExtents(client: PullClient, facts: MapFacts, { sizeBytes, signal }: { sizeBytes: number; signal: AbortSignal }) {
  return wholeMap({
    name: facts.name,
    sizeBytes,
    sliceBytes: sizeBytes,
    ask: async (offset, length) => (await client.askMap(offset, length, signal)).extents.map((extent) => meaningOf(extent, facts)),
    signal,
  });
}

/** Advice of {@link wholeMap}, and what helps where the image is full already. */
const [FULL_IMAGE, ANOTHER_BACKUP] = ['make a full image instead', 'make another backup'];

async function* joined(extents: AsyncIterable<ChangedExtent>): AsyncGenerator<SourceExtent> {
  const joiner = new ExtentJoiner();
  try {
    for await (const { offset, length, kind } of extents) {
      const complete = joiner.push({ offset, length, kind });
      if (complete !== undefined) yield complete;
    }
  } catch (error) {
    throw isUnusable(error) ? new DiskliftError('SourceReadError', error.message.replace(FULL_IMAGE, ANOTHER_BACKUP), error) : error;
  }
  const last = joiner.end();
  if (last !== undefined) yield last;
}

/** Whether the map has a gap. No other image can be made instead of a full one. */
function isUnusable(error: unknown): error is DiskliftError {
  return error instanceof DiskliftError && error.code === 'ChangesRefused';
}
