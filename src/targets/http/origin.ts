/** Where an upload goes, with what only that server may see. */

import type { TlsMaterial } from '../../network/guarded-connection.ts';

/** What one request is made of. Everything in `headers` and `tls` may be secret. */
export interface Origin {
  url: URL;
  /** Name of the Secret that holds the URL: then nothing of the URL but its host may be shown, nor of where the server redirects it. */
  secretName?: string | undefined;
  /** Whether the server of another origin has led here: then the words of this one are not shown. */
  isElsewhere?: boolean | undefined;
  /** Whether the path is the word of a server whose words are not shown. */
  hasUnshownPath?: boolean | undefined;
  /** The caller's headers. */
  headers: Readonly<Record<string, string>>;
  tls: TlsMaterial;
}
