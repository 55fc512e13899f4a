/** Bounds the bytes of every answer of an S3 server, in one place for all operations. The SDK collects a body without a limit. */

import { pipeline, type Readable, Transform } from 'node:stream';
import type { NodeHttpHandler } from '@smithy/node-http-handler';
import { formatBytes, KIB, MIB } from '../../common/bytes.ts';
import { DiskliftError } from '../../common/errors.ts';

/** Limit of an answer that is no listing: a few hundred bytes, or a gateway's page of an error. */
const MAX_ANSWER_BYTES = 256 * KIB;

/** Limit of one page of an upload's parts: 1000 entries of some 500 bytes. */
export const MAX_PARTS_PAGE_BYTES = MIB;

/** Limit of one page of a bucket's uploads: 1000 entries, each with a key of up to 1024 bytes that XML may escape. */
export const MAX_UPLOADS_PAGE_BYTES = 4 * MIB;

/** What a request adds to the options of the SDK's handler, which passes them on as they are. */
export interface AnswerLimit {
  /** Limit of the body of a success; {@link MAX_ANSWER_BYTES} when left out. */
  maxAnswerBytes?: number | undefined;
  /** Called once when the limit is exceeded. The SDK alters the errors that it passes on, so the request's own error comes this way. */
  onExcess?(error: DiskliftError): void;
}

type Handler = Pick<NodeHttpHandler, 'handle'>;

/** @param where the server in a form that may be shown */
export function limitAnswers<T extends Handler>(handler: T, where: string): T {
  const handle = handler.handle.bind(handler);
  handler.handle = async (request, options?: Parameters<Handler['handle']>[1] & AnswerLimit) => {
    const { response } = await handle(request, options);
    const { maxAnswerBytes = MAX_ANSWER_BYTES, onExcess } = options ?? {};
    const maxBytes = response.statusCode < 300 ? maxAnswerBytes : MAX_ANSWER_BYTES;
    const excess = () =>
      onExcess?.(
        new DiskliftError(
          'DestinationRejected',
          `${where}: answered ${response.statusCode} with more than ${formatBytes(maxBytes)}; does the endpoint belong to an S3 server?`,
        ),
      );
    response.body = boundBody(response.body as Readable, maxBytes, excess);
    return { response };
  };
  return handler;
}

/** @returns the body, which fails and closes the connection behind the limit */
function boundBody(body: Readable, maxBytes: number, onExcess: () => void): Readable {
  let leftBytes = maxBytes;
  const bounded = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      leftBytes -= chunk.length;
      if (leftBytes >= 0) return done(null, chunk);
      onExcess();
      done(new Error('the answer is too long'));
    },
  });
  // The reader of `bounded` receives every failure.
  pipeline(body, bounded, () => {});
  return bounded;
}
