/** Options of every TCP connection that disklift opens, in place of Node's defaults (docs/decisions/0035). */

export const CONNECT_OPTIONS = {
  noDelay: true,
  /** A firewall drops idle connections, and a receiver may convert an image for hours before it answers. */
  keepAlive: true,
  keepAliveInitialDelay: 30_000,
  /**
   * Node 24 tries each address of a name for 250 ms only, so no connection to a distant host with two addresses would
   * succeed. In 5 s the kernel sends a lost SYN again twice (RFC 6298: after 1 s and 3 s).
   */
  autoSelectFamily: true,
  autoSelectFamilyAttemptTimeout: 5000,
} as const;
