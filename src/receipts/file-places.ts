/** The places of the files beside an image. */

export function receiptPlace(place: string): string {
  return `${place}.json`;
}

export function blocksPlace(place: string): string {
  return `${place}.blocks`;
}
