/** What a sidecar needs of the place where its requests come from. */

import type { DiskExportStatus } from '../resource/disk-export.ts';
import type { Authorize } from '../server/require-token.ts';
import type { RequestStore } from '../stores/contract.ts';
import type { ExportEnvironment } from './export.ts';

export interface ComposedStore extends Pick<ExportEnvironment, 'findWriter'> {
  store: RequestStore;
  executor?: NonNullable<DiskExportStatus['executor']>;
  /** Undefined where requests of any come. */
  namespace?: string;
  /** When it was last known which requests there are, in milliseconds since the epoch. */
  lastSuccessMs(): number | undefined;
  /** Milliseconds since {@link lastSuccessMs}, by a monotonic clock. */
  silenceMs(): number | undefined;
  /** Why requests are not served now, or undefined when they are. */
  unreadiness(): string | undefined;
  /** Why that will not get well by itself. */
  illness(): string | undefined;
  /** Who may see what, by the API server's word; undefined without one. */
  authorize?: Authorize;
  /** Hosts of the API server, which exports must not send to; resolves within about a minute and never fails. Left out: there is none. */
  apiServerHosts?: Promise<readonly string[]>;
  /** After the last claim is released. */
  close(): Promise<void>;
}
