/** The proxies that the environment names, in the notation that curl and most programs read. */

export interface ProxyEnvironment {
  httpsProxy?: string;
  httpProxy?: string;
  noProxy?: string;
}

/** Lower case first: of http_proxy, curl takes no other, because HTTP_PROXY can be a header that a CGI program was sent. */
export function proxyEnvironment(environment: Readonly<Record<string, string | undefined>> = process.env): ProxyEnvironment {
  const [httpsProxy, httpProxy, noProxy] = [
    environment.https_proxy ?? environment.HTTPS_PROXY,
    environment.http_proxy,
    environment.no_proxy ?? environment.NO_PROXY,
  ];
  return { ...(httpsProxy ? { httpsProxy } : {}), ...(httpProxy ? { httpProxy } : {}), ...(noProxy ? { noProxy } : {}) };
}
