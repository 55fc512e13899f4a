/** Chooses the proxy for a destination by the rules of curl. */

import { isIP } from 'node:net';
import { DiskliftError } from '../common/errors.ts';
import { readHttpUrl } from '../common/http-url.ts';
import { bareHost, createAddressSet } from './addresses.ts';

/** The values of HTTPS_PROXY, HTTP_PROXY and NO_PROXY. */
export interface ProxySettings {
  /** For destinations of https. A URL of http or https; may hold secrets in its user. */
  httpsProxy?: string | undefined;
  /** For destinations of http. */
  httpProxy?: string | undefined;
  /**
   * Destinations that are connected to without a proxy: names, which stand for everything beneath them too, addresses
   * and CIDRs, separated by commas or spaces; `*` stands for all.
   */
  noProxy?: string | undefined;
}

/**
 * @returns undefined for a direct connection
 * @throws DiskliftError `InvalidRequest` for a proxy whose URL is not valid
 */
export function proxyFor(destination: URL, { httpsProxy, httpProxy, noProxy = '' }: ProxySettings): URL | undefined {
  const setting = (destination.protocol === 'https:' ? httpsProxy : httpProxy)?.trim();
  if (setting === undefined || setting === '' || isExempt(bareHost(destination.hostname), noProxy)) return undefined;
  const text = /^[a-z][a-z0-9+.-]*:\/\//i.test(setting) ? setting : `http://${setting}`;
  const reading = readHttpUrl(text);
  if ('url' in reading) return reading.url;
  throw new DiskliftError('InvalidRequest', `the URL of the proxy for ${destination.protocol}//${destination.host} ${reading.problem}`);
}

function isExempt(host: string, noProxy: string): boolean {
  const addresses = createAddressSet();
  const names: string[] = [];
  for (const entry of noProxy.split(/[\s,]+/)) {
    if (entry === '*') return true;
    const text = bareHost(entry).replace(/^\./, '');
    if (text !== '' && !addresses.add(text)) names.push(text);
  }
  if (isIP(host) !== 0) return addresses.has(host);
  return names.some((name) => host === name || host.endsWith(`.${name}`));
}
