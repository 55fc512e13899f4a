/** What is saved before an upload is asked for: from when on there may be one whose name nobody has heard. */

const SHAPE = /^creating:(\d{1,15})$/;

/** In place of the id of an upload, which no server gives in this shape. @param nowMs epoch, by our clock */
export function intentId(nowMs: number): string {
  return `creating:${Math.floor(nowMs)}`;
}

/** @returns the time of an intent, or undefined for the id of an upload */
export function intendedMs(id: string): number | undefined {
  const text = SHAPE.exec(id)?.[1];
  return text === undefined ? undefined : Number(text);
}
