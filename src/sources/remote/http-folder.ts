/** The images beneath a URL. */

import type { Clock } from '../../common/clock.ts';
import { DiskliftError } from '../../common/errors.ts';
import { readHttpUrl } from '../../common/http-url.ts';
import { createLimiter } from '../../common/limiter.ts';
import type { NetworkAccess } from '../../network/destination-policy.ts';
import { createGuardedAgents } from '../../network/guarded-agent.ts';
import type { TlsMaterial } from '../../network/guarded-connection.ts';
import type { ProxySettings } from '../../network/open-connection.ts';
import type { ImageFolder, NamedImage } from './contract.ts';
import { createHttpRanges, type HttpRangeLimits, shownUrl } from './http-ranges.ts';
import { openRangedFile, type RetryLimits } from './range-server.ts';

export interface RemoteAccess {
  access: NetworkAccess;
  tls?: TlsMaterial | undefined;
  proxy?: ProxySettings | undefined;
  clock: Clock;
  /** Gives numbers from 0 up to, but not including, 1. */
  random: () => number;
  retries?: Partial<RetryLimits> | undefined;
}

export interface HttpFolderOptions extends RemoteAccess {
  limits?: Partial<HttpRangeLimits> | undefined;
}

/** Requests of one folder at a time. Servers of HTTP/1.1 commonly allow as many connections of one client. */
export const REQUESTS_IN_FLIGHT = 8;

/** @param text a URL of http or https @param beneath a URL above it; the URL's own directory when left out */
export function nameHttpImage(text: string, beneath: string | undefined, options: HttpFolderOptions): NamedImage {
  const url = parsed(text);
  const directory = new URL('./', url);
  const base = beneath === undefined ? directory : parsed(beneath.endsWith('/') ? beneath : `${beneath}/`);
  if (base.origin !== url.origin || !url.pathname.startsWith(base.pathname))
    throw new DiskliftError('InvalidRequest', `${shownUrl(url)}: does not lie beneath ${shownUrl(base)}; name a URL above it`);
  const path = decodedPath(url.pathname.slice(base.pathname.length));
  if (path === undefined || path === '' || path.endsWith('/'))
    throw new DiskliftError('InvalidRequest', `${shownUrl(url)}: is not the URL of a file`);
  return { folder: createHttpFolder({ root: url, rootPath: path, prefix: base.pathname }, options), path };
}

function parsed(text: string): URL {
  const reading = readHttpUrl(text);
  if ('problem' in reading) throw new DiskliftError('InvalidRequest', `the URL ${reading.problem}`);
  return reading.url;
}

/** @returns undefined for a path that programs read in two ways */
function decodedPath(path: string): string | undefined {
  try {
    const names = path.split('/').map(decodeURIComponent);
    return names.some((name) => name.includes('/')) ? undefined : names.join('/');
  } catch {
    return undefined;
  }
}

interface Root {
  /** The URL that the user has named. Its query is for this file only. */
  root: URL;
  rootPath: string;
  /** Path of the folder, as the URL has it; ends with a slash. */
  prefix: string;
}

function createHttpFolder({ root, rootPath, prefix }: Root, options: HttpFolderOptions): ImageFolder {
  const { access, tls, proxy, ...rest } = options;
  const agents = createGuardedAgents({ access, tls, proxy, keepAlive: true, maxFreeSockets: REQUESTS_IN_FLIGHT });
  const requestLimit = createLimiter(REQUESTS_IN_FLIGHT);
  const closed = new AbortController();

  function urlOf(path: string): URL {
    if (path === rootPath) return root;
    const url = new URL(root);
    url.search = '';
    url.pathname = `${prefix}${path.split('/').map(encodeURIComponent).join('/')}`;
    return url;
  }

  return {
    open: (path, signal) =>
      openRangedFile(createHttpRanges({ url: urlOf(path), agents, ...rest }), { ...rest, requestLimit, closed: closed.signal }, signal),
    nameOf: (path) => shownUrl(urlOf(path)),
    async dispose() {
      closed.abort(new DiskliftError('Cancelled', 'closed'));
      agents.httpAgent.destroy();
      agents.httpsAgent.destroy();
    },
  };
}
