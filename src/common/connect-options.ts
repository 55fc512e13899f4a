/** Options of every TCP connection that disklift opens, in place of Node's defaults (docs/decisions/0035). */

export const CONNECT_OPTIONS = {
  noDelay: true,
  /** A firewall forgets a connection that is silent; a receiver may convert an image for hours before it answers. */
  keepAlive: true,
  keepAliveInitialDelay: 30_000,
  /**
   * Node 24 gives each address of a name 250 ms and then leaves it for the next one, so that a distant host with two addresses could not
   * be reached at all. In 5 s the kernel sends a lost SYN again twice (RFC 6298: after 1 s and 3 s).
   */
  autoSelectFamily: true,
  autoSelectFamilyAttemptTimeout: 5000,
} as const;
