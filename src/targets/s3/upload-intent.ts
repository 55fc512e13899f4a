/** What is saved of an upload, in the place of its id in the resume state. */

const SHAPE = /^creating:(\d{1,15})(?::(.+))?$/s;

export interface SavedUpload {
  /** As the server has named it; left out as long as no answer has named it. */
  uploadId?: string;
  /**
   * When the upload may have been made, at the earliest; epoch, by our clock. Left out where the id is certain. Since then the server may
   * hold an upload whose id was lost or damaged on its way.
   */
  sinceMs?: number;
}

/** No server gives an id that begins like this. */
export function savedIdOf({ uploadId, sinceMs }: SavedUpload & Pick<Required<SavedUpload>, 'sinceMs'>): string {
  const intent = `creating:${Math.floor(sinceMs)}`;
  return uploadId === undefined ? intent : `${intent}:${uploadId}`;
}

export function readSavedId(id: string): SavedUpload {
  const [, sinceMs, uploadId] = SHAPE.exec(id) ?? [];
  if (sinceMs === undefined) return { uploadId: id };
  return { sinceMs: Number(sinceMs), ...(uploadId === undefined ? {} : { uploadId }) };
}
