/** What a TLS connection is made with, beside the system's own authorities. */

export interface TlsMaterial {
  /** PEM: authorities that are trusted instead of the system's. */
  ca?: string | undefined;
  /** PEM: the client's certificate. Secret together with its key. */
  certificate?: string | undefined;
  /** PEM. */
  key?: string | undefined;
  /** The name that the server's certificate must be for, where it is not the host's. Sent as SNI. */
  serverName?: string | undefined;
}
