/** Rules of receipts and incremental images: twins of x-kubernetes-validations in manifests/crd.yaml. Pure. */

import { KNOWN_PLACEHOLDERS, OTHER_BRACES } from './destination-kinds.ts';
import type { DiskExportSpec, IncrementalSpec } from './disk-export.ts';
import { CONTROL_CHARACTER, CONTROL_CHARACTERS, type FieldError } from './rules.ts';
import { takesOtherFiles } from './source-kinds.ts';

const NEEDS_FILES = 'needs S3, or HTTP with url and the method PUT';

/** Printable ASCII without query, fragment and backslash. */
const HTTP_PATH = /^\/[!-"$->@-[\]-~]*$/;

type Spec = Pick<DiskExportSpec, 'checksum' | 'destination' | 'image' | 'incremental' | 'receipt'>;

/** The errors that the schema accepts. */
export function* incrementalErrors({ receipt, incremental, destination, checksum, image }: Spec): Generator<FieldError> {
  const takesFiles = takesOtherFiles(destination);
  if (receipt === true && !takesFiles) yield { field: 'spec.receipt', message: NEEDS_FILES };
  if (incremental === undefined) return;
  const field = 'spec.incremental';
  if (!takesFiles) yield { field, message: NEEDS_FILES };
  if (checksum !== 'SHA256') yield { field, message: 'needs the checksum SHA256' };
  if (image.version !== 3) yield { field, message: 'needs images of version 3' };
  if (image.layout === 'Verbatim') yield { field, message: 'needs the layout Converted' };
  if (receipt === false) yield { field, message: 'needs the receipt' };
  yield* placeErrors(incremental, destination.http !== undefined);
}

function* placeErrors({ base, tracker }: IncrementalSpec, isHttp: boolean): Generator<FieldError> {
  if ((base === undefined) === (tracker === undefined))
    yield { field: 'spec.incremental', message: 'exactly one of base and tracker must be set' };
  for (const [name, place] of Object.entries({ base, tracker })) {
    if (place === undefined) continue;
    const field = `spec.incremental.${name}`;
    if (!KNOWN_PLACEHOLDERS.test(place)) yield { field, message: OTHER_BRACES };
    if (CONTROL_CHARACTER.test(place)) yield { field, message: CONTROL_CHARACTERS };
    if (place.split('/').some((part) => part === '.' || part === '..')) yield { field, message: 'must have no parts . and ..' };
    if (isHttp && !HTTP_PATH.test(place))
      yield { field, message: 'must be a path of the server, of printable ASCII, that begins with / and has no ?, no # and no backslash' };
  }
}
