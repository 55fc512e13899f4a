/** The parts of a server's answer that matter for the upload. */

export interface Answer {
  status: number;
  headers: Readonly<Record<string, string | undefined>>;
  /** The beginning of the server's text. */
  text: string;
  /** Whether `text` is the whole text. */
  isTextWhole: boolean;
  /** Digests of the whole text, in hex, by each algorithm that the headers name; undefined where the text did not end. */
  textDigests: ReadonlyMap<string, string> | undefined;
  /** Whether the server's words may be shown: its text, and the headers that hold words. */
  mayQuote: boolean;
  /** Whether the whole body had been sent when the answer came. */
  wasComplete: boolean;
  /** Bytes of the body sent after the server's 100 Continue, or of a body that was sent whole. The server has begun to store them. */
  takenBytes: number;
}
