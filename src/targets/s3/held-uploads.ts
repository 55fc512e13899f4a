/** The uploads that a server holds open: their names in the resume state, their lists, and their end. */

import type { Part as ListedPart, ListPartsCommandOutput, MultipartUpload } from '@aws-sdk/client-s3';
import { DiskliftError } from '../../common/errors.ts';
import { MAX_PARTS_PAGE_BYTES, MAX_UPLOADS_PAGE_BYTES } from '../../s3/request-limits.ts';
import { cannotLook, isUploadGone, s3ErrorName } from '../../s3/s3-error.ts';
import type { S3Session } from '../../s3/s3-session.ts';
import type { S3Limits, S3TargetOptions } from './s3-options.ts';
import { type Retries, withRetries } from './transfer.ts';

const SHAPE = /^creating:(\d{1,15})(?::(.+))?$/s;

export interface SavedUpload {
  /** The server's id; left out until an answer has named it. */
  uploadId?: string;
  /**
   * Time from which an upload may exist whose id was lost or damaged on its way; ms since the epoch, by our clock. Left
   * out where the id is certain.
   */
  sinceMs?: number;
}

/** No server uses ids with this prefix. */
export function savedIdOf({ uploadId, sinceMs }: SavedUpload & Pick<Required<SavedUpload>, 'sinceMs'>): string {
  const intent = `creating:${Math.floor(sinceMs)}`;
  return uploadId === undefined ? intent : `${intent}:${uploadId}`;
}

export function readSavedId(id: string): SavedUpload {
  const [, sinceMs, uploadId] = SHAPE.exec(id) ?? [];
  if (sinceMs === undefined) return { uploadId: id };
  return { sinceMs: Number(sinceMs), ...(uploadId === undefined ? {} : { uploadId }) };
}

/** Servers list 1000 parts in a page, and accept 10,000 parts. */
const MAX_PAGES = 100;

export interface PartListing extends Retries {
  session: S3Session<S3Limits>;
  options: S3TargetOptions;
  uploadId: string;
}

/**
 * @returns the parts by number
 * @throws DiskliftError `DestinationRejected`, with the cause NoSuchUpload, when there is no such upload
 */
export async function listParts({ session, options, uploadId, ...retries }: PartListing): Promise<Map<number, ListedPart>> {
  const about = { Bucket: options.bucket, Key: options.key, UploadId: uploadId };
  const { signal } = retries;
  const parts = new Map<number, ListedPart>();
  const startMs = retries.clock.monotonicMs();
  let pages = 0;
  let marker: string | undefined;
  do {
    const page: ListPartsCommandOutput = await withRetries(
      () =>
        session.request(
          ({ client, http }) =>
            client.send(
              new session.sdk.ListPartsCommand({ ...about, ...(marker === undefined ? {} : { PartNumberMarker: marker }) }),
              http,
            ),
          { signal, maxAnswerBytes: MAX_PARTS_PAGE_BYTES },
        ),
      retries,
    );
    for (const part of page.Parts ?? []) if (part.PartNumber !== undefined) parts.set(part.PartNumber, part);
    // A server that repeats its marker, or gives none, would make this loop endless.
    const next = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
    marker = next === marker ? undefined : next;
    pages += 1;
    if (marker !== undefined && (pages >= MAX_PAGES || retries.clock.monotonicMs() - startMs > session.limits.answerMs))
      throw new DiskliftError('DestinationUnreachable', `${session.where}: the list of the upload's parts does not end`);
  } while (marker !== undefined);
  return parts;
}

export interface UploadListing extends Retries {
  session: S3Session<S3Limits>;
  options: S3TargetOptions;
}

interface ListedUploads {
  uploads: MultipartUpload[];
  /** Difference of the server's clock to ours, or a little less: `Date` has whole seconds, and arrived a while ago. */
  skewMs: number;
}

/** The uploads of a key come first in the list of its prefix, so one page is enough. @throws DiskliftError */
async function listUploads({ session, options, ...retries }: UploadListing): Promise<ListedUploads> {
  const { bucket: Bucket, key } = options;
  const { signal, clock } = retries;
  let skewMs = 0;
  const { Uploads = [] } = await withRetries(
    () =>
      session.request(
        ({ client, http }) => {
          const command = new session.sdk.ListMultipartUploadsCommand({ Bucket, Prefix: key });
          command.middlewareStack.add(
            (next) => async (args) => {
              const result = await next(args);
              const { date } = (result.response as { headers: Record<string, string | undefined> }).headers;
              const serverMs = Date.parse(date ?? '');
              skewMs = Number.isNaN(serverMs) ? 0 : serverMs - clock.nowMs();
              return result;
            },
            { step: 'deserialize', name: 'serverClock' },
          );
          return client.send(command, http);
        },
        { signal, maxAnswerBytes: MAX_UPLOADS_PAGE_BYTES },
      ),
    retries,
  );
  return { uploads: Uploads.filter(({ Key }) => Key === key), skewMs };
}

/**
 * Aborts the upload that is saved as `savedId`, when nothing continues it. An id that the server does not know may have
 * been damaged on its way; then orphaned uploads of that time are aborted.
 * @throws DiskliftError when the saved upload may still be there
 */
export async function abortSaved({ savedId, ...common }: UploadListing & { savedId: string }): Promise<void> {
  const { uploadId, sinceMs } = readSavedId(savedId);
  const end = uploadId === undefined ? 'unknown' : await abortUpload({ ...common, uploadId });
  if (end === 'unknown' && sinceMs !== undefined) await abortOrphaned({ ...common, sinceMs });
}

export interface OrphanedUploads extends UploadListing {
  /** Time of the first request that may have made one; ms since the epoch, by our clock. */
  sinceMs: number;
  /** Id of the upload that stays; left out where none stays. */
  namedId?: string | undefined;
}

/** Servers report times in whole seconds, and our clock may have been set meanwhile. */
const CLOCK_MARGIN_MS = 2000;

/**
 * Aborts orphaned uploads: empty uploads of the same key since `sinceMs`, whose ids were lost with the answers that
 * named them. Older uploads, uploads with a part and uploads of other keys stay. An empty upload that another export to
 * the same key made in that time looks the same; that export then receives NoSuchUpload and begins again.
 *
 * If listing is forbidden or unsupported (403, 404, 405, 501), orphans cannot be found; that is not an error.
 * @throws DiskliftError when such an upload may still be there
 */
export async function abortOrphaned(orphaned: OrphanedUploads): Promise<void> {
  const { clock, signal, limits, namedId } = orphaned;
  try {
    // If our upload has an id, the others are older, and the list shows them already.
    if ((await abortListed(orphaned)) > 0 || namedId !== undefined) return;
    await clock.delay(limits.lateMs, signal);
    await abortListed(orphaned);
  } catch (error) {
    if (!cannotLook(error)) throw error;
  }
}

/** @returns how many there were */
async function abortListed({ sinceMs, namedId, ...common }: OrphanedUploads): Promise<number> {
  const { uploads, skewMs } = await listUploads(common);
  const earliestMs = sinceMs + skewMs - CLOCK_MARGIN_MS;
  let count = 0;
  for (const { UploadId: uploadId, Initiated } of uploads) {
    const isOfThen = (Initiated?.getTime() ?? Number.NEGATIVE_INFINITY) >= earliestMs;
    if (uploadId === undefined || uploadId === namedId || !isOfThen || !(await isEmpty({ ...common, uploadId }))) continue;
    await abortUpload({ ...common, uploadId });
    count += 1;
  }
  return count;
}

async function isEmpty(upload: UploadListing & { uploadId: string }): Promise<boolean> {
  try {
    return (await listParts(upload)).size === 0;
  } catch (error) {
    // The process that has its id completed or aborted it meanwhile.
    if (s3ErrorName(error) === 'NoSuchUpload') return false;
    throw error;
  }
}

export interface AbortedUpload extends Retries {
  session: S3Session<S3Limits>;
  options: S3TargetOptions;
  uploadId: string;
}

/** Late parts are late by a moment as a rule, so an early look saves a second whole wait. */
const LOOKS = 4;

/** Aborts before this gives up. */
const TRIES = 3 * LOOKS;

/**
 * Aborts an upload, and checks for a while that it stays gone. Parts on their way may arrive after the abort, and some
 * servers then open the upload again. AWS: "it might be necessary to abort a given multipart upload multiple times".
 * @returns 'unknown' when the server has no upload of that id
 * @throws DiskliftError when the upload may still be there
 */
export async function abortUpload(aborted: AbortedUpload): Promise<'aborted' | 'unknown'> {
  const { session, options, uploadId, ...retries } = aborted;
  const about = { Bucket: options.bucket, Key: options.key, UploadId: uploadId };
  const { signal } = retries;
  for (let attempt = 1; attempt <= TRIES; attempt += 1) {
    const abort = () =>
      session.request(({ client, http }) => client.send(new session.sdk.AbortMultipartUploadCommand(about), http), { signal });
    if (await isGone(() => withRetries(abort, retries))) return attempt === 1 ? 'unknown' : 'aborted';
    if (await staysGone(aborted)) return 'aborted';
  }
  throw new DiskliftError('DestinationRejected', `${session.where}: the upload is still there after it was aborted`, undefined, {
    retryable: true,
  });
}

async function staysGone(aborted: AbortedUpload): Promise<boolean> {
  const { clock, limits, signal } = aborted;
  for (let look = 0; look < LOOKS; look += 1) {
    await clock.delay(limits.lateMs / LOOKS, signal);
    if (!(await isGone(() => leftParts(aborted)))) return false;
  }
  return true;
}

async function isGone(ask: () => Promise<unknown>): Promise<boolean> {
  try {
    return (await ask()) === 'nothing left';
  } catch (error) {
    if (isUploadGone(error)) return true;
    throw error;
  }
}

async function leftParts(aborted: AbortedUpload): Promise<'nothing left' | 'parts'> {
  try {
    return (await listParts(aborted)).size === 0 ? 'nothing left' : 'parts';
  } catch (error) {
    // Listing needs a right of its own. The abort itself succeeded.
    if (cannotLook(error)) return 'nothing left';
    throw error;
  }
}
