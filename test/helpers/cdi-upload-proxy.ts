/**
 * Stands in for the way into a DataVolume of KubeVirt's CDI: its upload proxy, which looks at tokens, and behind it the
 * upload server of one volume, which takes one image in its life. Strict: it judges as the real ones do
 * (pkg/uploadproxy, pkg/uploadserver).
 */

import { once } from 'node:events';
import type http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';

export interface CdiUploadProxyOptions {
  tls: https.ServerOptions;
  /** As an UploadTokenRequest gives it. */
  token: string;
  /** Larger images do not fit the volume. */
  sizeBytes?: number;
}

export interface CdiUploadProxy extends AsyncDisposable {
  url: string;
  /** The image that the volume was made from; undefined until an upload succeeds. */
  image: Buffer | undefined;
  /** Status of each answer, in order. */
  statuses: number[];
  /** Resolves when an upload has begun that is not at its end. */
  busy: Promise<void>;
}

const PATHS: ReadonlySet<string> = new Set(['/v1beta1/upload', '/v1beta1/upload-async', '/v1alpha1/upload', '/v1alpha1/upload-async']);

const QCOW2_MAGIC = Buffer.from('QFI\xfb', 'latin1');

export async function startCdiUploadProxy({
  tls,
  token,
  sizeBytes = Number.MAX_SAFE_INTEGER,
}: CdiUploadProxyOptions): Promise<CdiUploadProxy> {
  let isUploading = false;
  const busy = Promise.withResolvers<void>();

  /** @returns the status of a refusal, or 100 to continue */
  function judge({ method, headers, url = '' }: http.IncomingMessage): number {
    const [path = ''] = url.split('?');
    if (!PATHS.has(path)) return 404;
    const given = headers.authorization?.match(/^Bearer\s+([A-Za-z0-9\-._~+/]+)$/i)?.[1];
    if (given === undefined) return 400;
    if (given !== token) return 401;
    if (method !== 'POST') return 404;
    if (isUploading) return 503;
    return proxy.image === undefined ? 100 : 409;
  }

  async function take(request: http.IncomingMessage): Promise<[status: number, text: string]> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) {
      chunks.push(chunk as Buffer);
      busy.resolve();
    }
    const body = Buffer.concat(chunks);
    if (body.length > sizeBytes)
      return [400, 'Saving stream failed: effective image size is larger than the reported available storage: no capacity'];
    if (!body.subarray(0, QCOW2_MAGIC.length).equals(QCOW2_MAGIC))
      return [500, 'Saving stream failed: not an image that this stand-in knows'];
    proxy.image = body;
    return [200, ''];
  }

  function handle(request: http.IncomingMessage, response: http.ServerResponse): void {
    const answer = (status: number, text = ''): void => {
      proxy.statuses.push(status);
      response.writeHead(status).end(text);
    };
    const status = judge(request);
    if (status !== 100) {
      answer(status);
      return;
    }
    isUploading = true;
    if (request.headers.expect !== undefined) response.writeContinue();
    take(request)
      .then(
        (result) => answer(...result),
        // Cut off: the server is ready for another upload.
        () => {},
      )
      .finally(() => {
        isUploading = false;
      });
  }

  const server = https.createServer(tls, handle);
  server.on('checkContinue', handle).on('clientError', (_error, socket) => socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy: CdiUploadProxy = {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    image: undefined,
    statuses: [],
    busy: busy.promise,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}
