/**
 * Questions to the data and map endpoints of KubeVirt's export server (virt-exportserver).
 *
 * - `data` answers 200 to every range, and never 206. It states no length, and a failure behind it closes the
 *   connection: only the count of bytes shows that a range is whole.
 * - A length of 0 means "to the end of the disk", and a range that goes beyond the end is cut without a word.
 * - `map` answers in pages. It does not state the size of the disk, and neither does anything else.
 */

import { MIB } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { retry } from '../../common/retry.ts';
import type { BackupVolume, MapPage, PullAnswer, PullServer } from './contract.ts';
import { readMapPage } from './read-map-page.ts';

/** Extents of one answer: about 3 MB of JSON. KubeVirt's own default of 512 would ask QEMU again for each 512. */
const PAGE_EXTENTS = 32_768;
const MAX_PAGE_BYTES = 16 * MIB;

/** A read is repeated here, because a new attempt at the disk would first compare all that the scan has read. */
const MAX_TRIES = 4;
const BACKOFF = { baseMs: 500, capMs: 10_000 };

export interface PullClientOptions extends BackupVolume {
  server: PullServer;
  clock: Clock;
  random(): number;
}

export interface PullClient {
  /** Fills `buffer`. @throws DiskliftError as {@link DiskSource.read} */
  read(buffer: Uint8Array, offset: number, signal: AbortSignal): Promise<void>;
  /**
   * @param length 0: to the end of the disk
   * @throws DiskliftError `SourceReadError`, `SourcePermissionDenied`, `SourceNotFound`, `Cancelled`
   */
  askMap(offset: number, length: number, signal: AbortSignal): Promise<MapPage>;
  /** Whether the disk has exactly this many bytes (1 and more). @throws DiskliftError as {@link askMap} */
  endsAt(sizeBytes: number, signal: AbortSignal): Promise<boolean>;
}

export function createPullClient({ name, dataUrl, mapUrl, server, clock, random }: PullClientOptions): PullClient {
  function repeated<T>(what: string, signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    const isRetryable = (error: unknown, failed: number) => error instanceof DiskliftError && error.retryable && failed < MAX_TRIES;
    const once = async () => {
      try {
        return await task();
      } catch (error) {
        throw ofSource(error, `${name}: ${what}`);
      }
    };
    return retry(once, { isRetryable, backoff: BACKOFF, clock, random, signal });
  }

  async function ask(url: URL, query: Readonly<Record<string, number>>, signal: AbortSignal): Promise<PullAnswer> {
    const asked = new URL(url);
    for (const [key, value] of Object.entries(query)) asked.searchParams.set(key, `${value}`);
    const answer = await server.get(asked, signal);
    if (answer.status === 200) return answer;
    answer.discard();
    throw refusal(answer.status);
  }

  return {
    read: (buffer, offset, signal) =>
      repeated(`cannot read ${buffer.length} bytes at offset ${offset}`, signal, async () => {
        if (buffer.length === 0) return;
        const { body } = await ask(dataUrl, { offset, length: buffer.length }, signal);
        let at = 0;
        for await (const bytes of body) {
          if (at + bytes.length > buffer.length) throw new DiskliftError('SourceReadError', 'the server sends more bytes than that');
          buffer.set(bytes, at);
          at += bytes.length;
        }
        if (at < buffer.length) throw new DiskliftError('SourceReadError', `the server ended its answer after ${at} bytes`);
      }),
    askMap: (offset, length, signal) =>
      repeated(`cannot read the map at offset ${offset}`, signal, async () => {
        const { body } = await ask(mapUrl, { offset, length, page_size: PAGE_EXTENTS }, signal);
        const chunks: Uint8Array[] = [];
        let sizeBytes = 0;
        for await (const bytes of body) {
          sizeBytes += bytes.length;
          if (sizeBytes > MAX_PAGE_BYTES) throw new DiskliftError('SourceReadError', `the answer has more than ${MAX_PAGE_BYTES} bytes`);
          chunks.push(Buffer.from(bytes));
        }
        return readMapPage(Buffer.concat(chunks).toString(), name);
      }),
    endsAt: (sizeBytes, signal) =>
      repeated(`cannot read the byte at offset ${sizeBytes - 1}, where the map ends`, signal, async () => {
        const { body } = await ask(dataUrl, { offset: sizeBytes - 1, length: 2 }, signal);
        let count = 0;
        for await (const bytes of body) count += bytes.length;
        if (count === 0 || count > 2) throw new DiskliftError('SourceReadError', `the server sent ${count} bytes of 2`);
        return count === 1;
      }),
  };
}

const REFUSALS: Readonly<Record<number, readonly ['SourcePermissionDenied' | 'SourceNotFound', string]>> = {
  401: ['SourcePermissionDenied', 'the token was refused; does the Secret of the backup still hold the token that it had?'],
  403: ['SourcePermissionDenied', 'the token was refused; does the Secret of the backup still hold the token that it had?'],
  404: ['SourceNotFound', 'the server has no such volume; is the backup over? Make a new one'],
  410: ['SourceNotFound', 'the server has no such volume any more; make a new backup'],
};

/** The server's text is not shown: it may be any server's. */
function refusal(status: number): DiskliftError {
  const known = REFUSALS[status];
  if (known !== undefined) return new DiskliftError(known[0], `answered ${status}: ${known[1]}`);
  if (status === 503)
    return new DiskliftError('SourceReadError', 'answered 503: the export server has no connection to the virtual machine');
  if (status >= 500) return new DiskliftError('SourceReadError', `answered ${status}: QEMU or the checkpoint does not answer it`);
  return new DiskliftError('SourceReadError', `answered ${status}, and only 200 is an answer`, undefined, { retryable: false });
}

/** A broken connection to the backup is a failure of the source, and not of the destination. */
function ofSource(error: unknown, what: string): unknown {
  if (!(error instanceof DiskliftError) || error.code === 'Cancelled') return error;
  const code = error.code === 'DestinationUnreachable' ? 'SourceReadError' : error.code;
  return new DiskliftError(code, `${what}: ${error.message}`, error, { retryable: error.retryable });
}
