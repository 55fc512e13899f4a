/** The uploads that a server holds open: their names in the resume state, their lists, and their end. */

import type { Part as ListedPart, ListPartsCommandOutput, MultipartUpload } from '@aws-sdk/client-s3';
import { DiskliftError } from '../../common/errors.ts';
import { MAX_PARTS_PAGE_BYTES, MAX_UPLOADS_PAGE_BYTES } from './request-limits.ts';
import { cannotLook, isUploadGone, s3ErrorName } from './s3-error.ts';
import type { S3TargetOptions } from './s3-options.ts';
import type { S3Session } from './s3-session.ts';
import { type Retries, withRetries } from './transfer.ts';

const SHAPE = /^creating:(\d{1,15})(?::(.+))?$/s;

export interface SavedUpload {
  /** As the server has named it; left out as long as no answer has named it. */
  uploadId?: string;
  /**
   * When the upload may have been made, at the earliest; epoch, by our clock. Left out where the id is certain. Since then the server may
   * hold an upload whose id was lost or damaged on its way.
   */
  sinceMs?: number;
}

/** No server gives an id that begins like this. */
export function savedIdOf({ uploadId, sinceMs }: SavedUpload & Pick<Required<SavedUpload>, 'sinceMs'>): string {
  const intent = `creating:${Math.floor(sinceMs)}`;
  return uploadId === undefined ? intent : `${intent}:${uploadId}`;
}

export function readSavedId(id: string): SavedUpload {
  const [, sinceMs, uploadId] = SHAPE.exec(id) ?? [];
  if (sinceMs === undefined) return { uploadId: id };
  return { sinceMs: Number(sinceMs), ...(uploadId === undefined ? {} : { uploadId }) };
}

/** Servers list 1000 parts a page, and take 10,000 parts. */
const MAX_PAGES = 100;

export interface PartListing extends Retries {
  session: S3Session;
  options: S3TargetOptions;
  uploadId: string;
}

/** @returns the parts by number @throws DiskliftError `DestinationRejected`, with the cause NoSuchUpload, when there is no such upload */
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
    // A server that says there is more, and not where, or says the same again, would be asked for ever.
    const next = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
    marker = next === marker ? undefined : next;
    pages += 1;
    if (marker !== undefined && (pages >= MAX_PAGES || retries.clock.monotonicMs() - startMs > session.limits.answerMs))
      throw new DiskliftError('DestinationUnreachable', `${session.where}: the list of the upload's parts does not end`);
  } while (marker !== undefined);
  return parts;
}

export interface UploadListing extends Retries {
  session: S3Session;
  options: S3TargetOptions;
}

interface ListedUploads {
  uploads: MultipartUpload[];
  /** What has to be added to our clock for the server's, or a little less: `Date` has whole seconds, and came a while ago. */
  skewMs: number;
}

/** A key's own come first in what its prefix gives, so one page is enough. @throws DiskliftError */
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
 * Aborts the upload that is saved as `savedId`. Where the server does not know an id that may have been damaged on its way, the upload that
 * was made then is searched.
 * @throws DiskliftError when such an upload may still be there
 */
export async function abortSaved({ savedId, ...common }: UploadListing & { savedId: string }): Promise<void> {
  const { uploadId, sinceMs } = readSavedId(savedId);
  const end = uploadId === undefined ? 'unknown' : await abortUpload({ ...common, uploadId });
  if (end === 'unknown' && sinceMs !== undefined) await abortOrphaned({ ...common, sinceMs });
}

export interface OrphanedUploads extends UploadListing {
  /** When the first of them may have been asked for; epoch, by our clock. */
  sinceMs: number;
  /** The upload that is ours; left out: none is. */
  namedId?: string | undefined;
}

/** Servers tell their time and that of an upload in whole seconds, and our clock may have been set meanwhile. */
const CLOCK_MARGIN_MS = 2000;

/**
 * Aborts what was made for the same key since then, and holds nothing. What is older, or holds a part, or is for another key, is
 * left alone. An upload that another export to the same key has made in that time, and has sent nothing to yet, cannot be told
 * from ours: that export is told NoSuchUpload and begins anew.
 *
 * Where the credentials do not allow to look, or the server does not know the question, nothing can be done, now or later: this is
 * no failure then.
 * @throws DiskliftError when such an upload may still be there
 */
export async function abortOrphaned(orphaned: OrphanedUploads): Promise<void> {
  const { clock, signal, limits, namedId } = orphaned;
  try {
    // When ours has a name, the others are older, and can be seen.
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
    // Completed or aborted meanwhile, by whoever has its name.
    if (s3ErrorName(error) === 'NoSuchUpload') return false;
    throw error;
  }
}

export interface AbortedUpload extends Retries {
  session: S3Session;
  options: S3TargetOptions;
  uploadId: string;
}

/** Most of what is late is so by a moment only: who looks soon need not wait for the whole time twice. */
const LOOKS = 4;

/** Aborts until it is given up. */
const TRIES = 3 * LOOKS;

/**
 * Parts that were on their way may arrive behind the abort (AWS: "it might be necessary to abort a given multipart upload multiple
 * times"), and open the upload again at some servers, so the server is asked for a while what it has left.
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
    // To look is a right of its own; the abort itself was heard.
    if (cannotLook(error)) return 'nothing left';
    throw error;
  }
}
