/** Verifies one image: its bytes against its receipt, and its tables by themselves. */

import { formatBytes } from '../common/bytes.ts';
import { DiskliftError } from '../common/errors.ts';
import { type BackingPlace, backingPlace, readQcow2Header } from '../formats/chain/open-chain.ts';
import { checkImage } from '../formats/check/check-image.ts';
import { type ImageProblem, type Problems, problemText } from '../formats/check/problems.ts';
import { QCOW2_MAGIC } from '../qcow2/constants.ts';
import type { Qcow2Header } from '../qcow2/read/parse-header.ts';
import { backingNameOf, partsOfKey, partsOfUrlPath } from '../receipts/backing-name.ts';
import { receiptPlace } from '../receipts/file-places.ts';
import { type ImageReceipt, MAX_RECEIPT_BYTES, parseReceipt } from '../receipts/receipt.ts';
import type { NamedImage, RangedFile } from '../sources/remote/contract.ts';
import { hashFile } from '../sources/remote/hash-file.ts';

/** Facts that an image above this one states about it. */
export interface ExpectedBase {
  /** Name of the image above, for messages. */
  of: string;
  format: BackingPlace['format'];
  /** From the receipt of the image above. */
  sha256?: string | undefined;
  sizeBytes?: number | undefined;
}

export interface Problem extends Omit<ImageProblem, 'kind' | 'offset'> {
  kind: ImageProblem['kind'] | 'unreadable' | 'receipt' | 'base';
  offset?: number;
}

export interface ImageVerdict {
  image: string;
  isGood: boolean;
  sizeBytes?: number;
  sha256?: string;
  virtualSizeBytes?: number;
  /** 'none': the image has no receipt, so that only its tables show whether it is whole. */
  receipt: 'matches' | 'differs' | 'none' | 'unreadable';
  /** Name of the backing file that is verified as well. */
  base?: string;
  problemCount: number;
  /** The first of them. */
  problems: readonly Problem[];
}

export interface Verified {
  verdict: ImageVerdict;
  /** The backing file, to be verified next. */
  base?: { place: BackingPlace; expected: ExpectedBase };
}

/** @throws DiskliftError `Cancelled` only; every other failure is a verdict */
export async function verifyImage(named: NamedImage, expected: ExpectedBase | undefined, signal: AbortSignal): Promise<Verified> {
  const verdict: ImageVerdict = { image: named.folder.nameOf(named.path), isGood: false, receipt: 'none', problemCount: 0, problems: [] };
  const found: Problem[] = [];
  let tables: Problems | undefined;
  let base: Verified['base'];
  try {
    const file = await named.folder.open(named.path, signal);
    const { sizeBytes } = file;
    Object.assign(verdict, { sizeBytes });
    const receipt = await readReceipt(named, verdict, found, signal);
    const hashing = hashFile(file, signal);
    hashing.catch(() => {});
    const header = await parsed(() => headerOf(file, { receipt, expected }, signal), found);
    if (header !== undefined) {
      Object.assign(verdict, { virtualSizeBytes: header.sizeBytes });
      tables = await parsed(() => checkTables(file, header, signal), found);
      base = await parsed(async () => baseOf(named, { header, receipt, found }), found);
      if (base !== undefined) Object.assign(verdict, { base: named.folder.nameOf(base.place.path) });
    }
    const sha256 = await hashing;
    Object.assign(verdict, { sha256 });
    if (receipt !== undefined) {
      const differences = compareReceipt(receipt, { sizeBytes, sha256, header });
      found.push(...differences);
      verdict.receipt = differences.length === 0 ? 'matches' : 'differs';
    }
    if (expected !== undefined) found.push(...compareBase(expected, { sizeBytes, sha256 }));
    await file.identity();
  } catch (error) {
    found.push(asProblem(error, signal));
  }
  verdict.problems = [...found, ...(tables?.kept ?? [])];
  verdict.problemCount = found.length + (tables?.count ?? 0);
  verdict.isGood = verdict.problemCount === 0;
  return { verdict, ...(base === undefined ? {} : { base }) };
}

/** Notes the failure of one step, so that the others still run. */
async function parsed<T>(step: () => Promise<T>, found: Problem[]): Promise<T | undefined> {
  try {
    return await step();
  } catch (error) {
    if (!(error instanceof DiskliftError) || (error.code !== 'FormatUnsupported' && error.code !== 'InvalidRequest')) throw error;
    found.push({ kind: 'corrupt', message: error.message });
    return undefined;
  }
}

function asProblem(error: unknown, signal: AbortSignal): Problem {
  if (!(error instanceof DiskliftError) || signal.aborted) throw error;
  return { kind: 'unreadable', message: error.message };
}

async function readReceipt(
  { folder, path }: NamedImage,
  verdict: ImageVerdict,
  found: Problem[],
  signal: AbortSignal,
): Promise<ImageReceipt | undefined> {
  let file: RangedFile;
  try {
    file = await folder.open(receiptPlace(path), signal);
  } catch (error) {
    if (!(error instanceof DiskliftError) || signal.aborted) throw error;
    if (error.code === 'SourceNotFound') return undefined;
    verdict.receipt = 'unreadable';
    // S3 answers 403 for a missing object where the credentials may not list the bucket.
    if (error.code !== 'SourcePermissionDenied') found.push({ kind: 'receipt', message: `its receipt: ${error.message}` });
    return undefined;
  }
  const wrong = (why: string) => {
    verdict.receipt = 'unreadable';
    found.push({ kind: 'receipt', message: `its receipt ${file.name} ${why}` });
    return undefined;
  };
  if (file.sizeBytes > MAX_RECEIPT_BYTES) return wrong(`has ${file.sizeBytes} bytes, which is too much`);
  const bytes = Buffer.alloc(file.sizeBytes);
  await file.read(bytes, 0, signal);
  const reading = parseReceipt(bytes);
  return 'problem' in reading ? wrong(reading.problem) : reading.value;
}

interface Claims {
  receipt: ImageReceipt | undefined;
  expected: ExpectedBase | undefined;
}

/** @returns undefined for a file that need not be a qcow2 image @throws DiskliftError `FormatUnsupported` */
async function headerOf(file: RangedFile, { receipt, expected }: Claims, signal: AbortSignal): Promise<Qcow2Header | undefined> {
  const isByName = expected?.format === 'raw' || (expected === undefined && receipt?.image.layout === 'Verbatim');
  if (expected?.format === 'raw') return undefined;
  const magic = Buffer.alloc(Math.min(4, file.sizeBytes));
  await file.read(magic, 0, signal);
  if (magic.length === 4 && magic.readUInt32BE(0) === QCOW2_MAGIC) return readQcow2Header(file, signal);
  if (isByName) return undefined;
  const advice = receipt === undefined ? ', and it has no receipt with its SHA-256' : '';
  throw new DiskliftError('FormatUnsupported', `is no qcow2 image${advice}`);
}

async function checkTables(file: RangedFile, header: Qcow2Header, signal: AbortSignal): Promise<Problems> {
  const refuse = (why: string) => new DiskliftError('FormatUnsupported', why);
  if (header.encryption !== 'none') throw refuse('is encrypted, so that its tables are not checked');
  if (header.dataFile !== undefined) throw refuse('has its data in another file, which is not verified');
  return checkImage(file, header, signal);
}

interface HeaderFacts {
  header: Qcow2Header;
  receipt: ImageReceipt | undefined;
  found: Problem[];
}

/** Finds the backing file, and compares its name with the base of the receipt. */
function baseOf(named: NamedImage, { header, receipt, found }: HeaderFacts): Verified['base'] {
  const differs = (message: string) => void found.push({ kind: 'base', message });
  const place = backingPlace(header, named);
  const stated = receipt?.base;
  if (receipt !== undefined && receipt.image.layout === 'Converted' && (stated === undefined) !== (place === undefined))
    differs(
      place === undefined ? 'its receipt names a base, and its header none' : 'its header names a backing file, and its receipt no base',
    );
  if (place === undefined) return undefined;
  if (stated !== undefined && receipt !== undefined) {
    // Image and base may have been copied elsewhere together, so only the way from one to the other counts.
    const [from, to] = [receipt.image.place, stated.place];
    const names = [partsOfKey, partsOfUrlPath].map((partsOf) => backingNameOf(partsOf(from), partsOf(to)));
    if (!names.includes(header.backingFile?.name)) differs(`its header names another backing file than its receipt, ${stated.place}`);
  }
  const { sha256, sizeBytes } = stated ?? {};
  return { place, expected: { of: named.folder.nameOf(named.path), format: place.format, sha256, sizeBytes } };
}

interface FileFacts {
  sizeBytes: number;
  sha256: string;
}

function compareReceipt(
  { image }: ImageReceipt,
  { sizeBytes, sha256, header }: FileFacts & { header: Qcow2Header | undefined },
): Problem[] {
  const wrong: string[] = [];
  if (image.sizeBytes !== sizeBytes) wrong.push(`has ${sizeBytes} bytes, and its receipt says ${image.sizeBytes}`);
  else if (image.sha256 !== undefined && image.sha256 !== sha256)
    wrong.push(`has the SHA-256 ${sha256}, and its receipt says ${image.sha256}`);
  if (header !== undefined && image.layout === 'Converted' && image.virtualSizeBytes !== header.sizeBytes)
    wrong.push(`holds a disk of ${header.sizeBytes} bytes, and its receipt says ${image.virtualSizeBytes}`);
  return wrong.map((message) => ({ kind: 'receipt', message }));
}

function compareBase(expected: ExpectedBase, { sizeBytes, sha256 }: FileFacts): Problem[] {
  const differs = (message: string): Problem[] => [{ kind: 'base', message }];
  if (expected.sizeBytes !== undefined && expected.sizeBytes !== sizeBytes)
    return differs(`has ${sizeBytes} bytes, and the receipt of ${expected.of} says ${expected.sizeBytes} of its base`);
  if (expected.sha256 !== undefined && expected.sha256 !== sha256)
    return differs(`has the SHA-256 ${sha256}, and the receipt of ${expected.of} says ${expected.sha256} of its base`);
  return [];
}

const RECEIPT_TEXT: Readonly<Record<ImageVerdict['receipt'], string>> = {
  matches: 'its receipt matches',
  differs: 'its receipt differs',
  none: 'it has no receipt',
  unreadable: 'its receipt cannot be read',
};

/** @returns one line for people */
export function verdictLine({ image, isGood, sizeBytes = 0, sha256, receipt, problems, problemCount }: ImageVerdict): string {
  if (isGood) return `good  ${image}: ${formatBytes(sizeBytes)}, SHA-256 ${sha256}, ${RECEIPT_TEXT[receipt]}`;
  const [first] = problems;
  const more = problemCount > 1 ? ` (and ${problemCount - 1} more problems; --output json shows them)` : '';
  return `BAD   ${image}: ${textOf(first as Problem).replace(`${image}: `, '')}${more}`;
}

function textOf(problem: Problem): string {
  const { kind, offset = 0 } = problem;
  return kind === 'leaked' || kind === 'corrupt' || kind === 'truncated' ? problemText({ ...problem, kind, offset }) : problem.message;
}
