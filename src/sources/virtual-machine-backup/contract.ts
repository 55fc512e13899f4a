/**
 * The connection that the source reads through, and the server's answers. wiring supplies the connection: the policy
 * for peers that a request leads to lies in network, which the layer of sources does not import.
 */

export interface PullAnswer {
  status: number;
  /**
   * The bytes as they come. A reader that stops early closes the connection.
   * @throws DiskliftError `DestinationUnreachable` where the connection breaks or is silent, `Cancelled`
   */
  body: AsyncIterable<Uint8Array>;
  /** Drops the answer with its connection. For an answer whose body is not read. */
  discard(): void;
}

export interface PullServer {
  /**
   * Sends GET with the token of the backup. Follows no redirect.
   * @throws DiskliftError `DestinationNotAllowed`, `DestinationUnreachable`, `Cancelled` at once
   */
  get(url: URL, signal: AbortSignal): Promise<PullAnswer>;
  /** Closes all connections. */
  close(): void;
}

/** One volume of a backup, as the status of the VirtualMachineBackup shows it. */
export interface BackupVolume {
  /** The name of the disk in messages. */
  name: string;
  dataUrl: URL;
  mapUrl: URL;
  /** Whether the map shows changes since a checkpoint. The data is the whole disk in either case. */
  isIncremental: boolean;
}

/** One extent of a map as the server sends it. */
export interface MapExtent {
  offset: number;
  length: number;
  /** Flags whose meaning depends on the kind of map and on KubeVirt's version. */
  type: number;
  /** KubeVirt's words for `type`; they name the kind of map. */
  description: string;
}

export interface MapPage {
  extents: readonly MapExtent[];
  /** Undefined where the server has nothing behind the last extent. */
  nextOffset: number | undefined;
}
