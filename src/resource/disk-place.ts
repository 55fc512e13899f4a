/** The key or URL of one disk of a request, or of vm.yaml beside the disks of a virtual machine. Pure. */

import { DiskliftError } from '../common/errors.ts';
import type { DiskExport } from './disk-export.ts';
import { expandPlaceholders, expandUrl, placeholderValues } from './placeholders.ts';
import { isManifest, VM_MANIFEST } from './source-kinds.ts';

type Request = Pick<DiskExport, 'metadata' | 'spec'>;

/**
 * @param diskPath path in the status
 * @throws DiskliftError as {@link expandPlaceholders}
 */
export function diskKey(template: string, request: Request, diskPath: string): string {
  const folder = template.slice(0, template.lastIndexOf('/') + 1);
  const own = isManifest(request.spec.source, diskPath) ? `${folder}${VM_MANIFEST}` : template;
  return expandPlaceholders(own, placeholderValues(request, diskPath));
}

/** No error message contains any of the URL. @throws DiskliftError as {@link expandUrl} */
export function diskUrl(template: string, request: Request, diskPath: string): string {
  const own = isManifest(request.spec.source, diskPath) ? manifestUrl(template) : template;
  return expandUrl(own, placeholderValues(request, diskPath));
}

/**
 * The place of one disk's image among the files of its destination: the key of an object, or a path of the HTTP server.
 * @throws DiskliftError as {@link expandPlaceholders} and {@link expandUrl}; `InvalidRequest` for other destinations
 */
export function filePlace(request: Request, diskPath: string): string {
  const { s3, http } = request.spec.destination;
  if (s3 !== undefined) return diskKey(s3.key, request, diskPath);
  if (http?.url !== undefined) return new URL(diskUrl(http.url, request, diskPath)).pathname;
  throw new DiskliftError('InvalidRequest', 'spec.destination has no place for files beside its images');
}

/** Another place of the same destination. @throws DiskliftError as {@link expandPlaceholders} */
export function placeOf(template: string, request: Request, diskPath: string): string {
  const place = expandPlaceholders(template, placeholderValues(request, diskPath));
  return request.spec.destination.http === undefined ? place : new URL(place, 'http://host').pathname;
}

/** Replaces the last part of the path. */
function manifestUrl(template: string): string {
  return template.replace(/^([a-z]+:\/\/[^/?#]*)([^?#]*)/i, (_, origin: string, path: string) => {
    const folder = path.slice(0, path.lastIndexOf('/') + 1);
    return `${origin}${folder || '/'}${VM_MANIFEST}`;
  });
}
