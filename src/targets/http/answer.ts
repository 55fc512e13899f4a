/** What a server has answered, as far as it bears on the upload. */

export interface Answer {
  status: number;
  headers: Readonly<Record<string, string | undefined>>;
  /** The beginning of the server's text. */
  text: string;
  /** Whether `text` is all of it. */
  isTextWhole: boolean;
  /** Digests of the whole text, in hex, by each algorithm that the headers name; undefined where the text did not end. */
  textDigests: ReadonlyMap<string, string> | undefined;
  /** Whether the whole body had been sent when the answer came. */
  wasComplete: boolean;
  /** Sent of the body behind the server's 100, or of a body that was sent whole: the server has begun to store these bytes. */
  takenBytes: number;
}
