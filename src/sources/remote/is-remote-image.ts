/** Recognizes the names of images on servers, without loading what reads them. */

/** Whether the text names an image on a server that answers ranges. */
export function isRemoteImage(text: string): boolean {
  return /^(https?|s3):\/\//i.test(text);
}
