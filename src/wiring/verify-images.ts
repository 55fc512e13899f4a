/** Verifies images with all their backing files, each file once. */

import { MAX_CHAIN_LENGTH } from '../qcow2/constants.ts';
import type { NamedImage } from '../sources/remote/contract.ts';
import type { CommandContext } from './context.ts';
import { type ImageName, nameImage } from './named-image.ts';
import { type ExpectedBase, type ImageVerdict, type Problem, verifyImage } from './verify-image.ts';

/**
 * @returns a verdict for each image, in their order, and for each backing file behind the image that needs it
 * @throws DiskliftError `InvalidRequest` for a name that cannot be an image, `Cancelled`
 */
export async function* verifyImages(names: readonly ImageName[], context: CommandContext): AsyncGenerator<ImageVerdict> {
  const known = new Map<string, ImageVerdict>();
  for (const name of names) {
    const named = await nameImage(name, context);
    try {
      yield* verifyChain(named, known, context.signal);
    } finally {
      await named.folder.dispose();
    }
  }
}

async function* verifyChain(
  { folder, path }: NamedImage,
  known: Map<string, ImageVerdict>,
  signal: AbortSignal,
): AsyncGenerator<ImageVerdict> {
  const paths: string[] = [];
  let expected: ExpectedBase | undefined;
  for (let next: string | undefined = path; next !== undefined; ) {
    const name = folder.nameOf(next);
    const earlier = known.get(name);
    if (paths.includes(next) || paths.length === MAX_CHAIN_LENGTH) {
      const why =
        paths.length === MAX_CHAIN_LENGTH ? `a chain has more than ${MAX_CHAIN_LENGTH} images` : `${name} is its own backing file`;
      yield bad(folder.nameOf(path), { kind: 'base', message: why });
      return;
    }
    paths.push(next);
    // A file that was verified is read again only where another image expects something of it.
    if (earlier !== undefined && (expected === undefined || agrees(earlier, expected))) return;
    const { verdict, base } = await verifyImage({ folder, path: next }, expected, signal);
    known.set(name, verdict);
    yield verdict;
    expected = base?.expected;
    next = base?.place.path;
  }
}

/** A raw base is judged by its bytes alone, so its tables prove nothing about it. */
function agrees({ sha256, sizeBytes, virtualSizeBytes }: ImageVerdict, expected: ExpectedBase): boolean {
  if ((expected.format === 'raw') === (virtualSizeBytes !== undefined)) return false;
  return (expected.sha256 ?? sha256) === sha256 && (expected.sizeBytes ?? sizeBytes) === sizeBytes;
}

function bad(image: string, problem: Problem): ImageVerdict {
  return { image, isGood: false, receipt: 'none', problemCount: 1, problems: [problem] };
}
