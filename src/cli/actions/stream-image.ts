/** Implements `disklift stream`. */

import { fstatSync } from 'node:fs';
import fs from 'node:fs/promises';
import tty from 'node:tty';
import { abortable } from '../../common/abortable.ts';
import { DiskliftError } from '../../common/errors.ts';
import type { Verify } from '../../image/prepare-image.ts';
import type { InUse } from '../../sources/disk-in-use.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { composeImage, composeStdoutTarget, STDOUT_FD } from '../../wiring/stream.ts';
import { baseOf, type ImageFlags, layoutOf, qcow2OptionsOf } from '../options.ts';
import { createProgress } from '../progress.ts';
import { requireOpenStdout } from '../standard-output.ts';

export interface StreamFlags extends ImageFlags {
  verify: Verify;
  inUse: InUse;
  progress: 'auto' | 'json' | 'none';
  writeBlocks?: string;
}

export async function streamImage(image: string, flags: StreamFlags, context: CommandContext): Promise<void> {
  const qcow2 = qcow2OptionsOf(image, flags);
  const { bitmap, blocksFile, baseSizeBytes } = baseOf(image, flags);
  const { writeBlocks } = flags;
  await refuseUnfitStdout(image, context.signal);
  // Loaded when it is needed: most commands start sooner without it.
  const output = writeBlocks === undefined ? undefined : (await import('./blocks-output.ts')).createBlocksOutput(writeBlocks);
  await output?.check(flags, context.signal);
  const progress = await createProgress(flags.progress, process.stderr);
  try {
    const { zeroDetection, verify, inUse } = flags;
    await using prepared = await composeImage(
      {
        path: image,
        ...layoutOf(flags),
        beneath: flags.beneath,
        caFile: flags.caFile,
        qcow2,
        bitmap,
        blocksFile,
        keepBlocks: output !== undefined,
        baseSizeBytes,
        zeroDetection,
        verify,
        inUse,
        onOpen: (diskSizeBytes) => progress.begin('scan', diskSizeBytes),
        onScanned: (scannedBytes) => progress.update(scannedBytes),
      },
      context,
    );
    progress.begin('stream', prepared.image.sizeBytes);
    await composeStdoutTarget(context).send(prepared.image, {
      signal: context.signal,
      saveResume: async () => {},
      progress: (sentBytes) => progress.update(sentBytes),
      seal: async () => {
        await prepared.seal();
        return {};
      },
    });
    // Only now do the hashes belong to an image.
    await output?.write(prepared, context.signal);
    progress.done();
  } finally {
    progress.stop();
  }
}

async function refuseUnfitStdout(image: string, signal: AbortSignal): Promise<void> {
  requireOpenStdout();
  if (tty.isatty(STDOUT_FD)) throw new DiskliftError('InvalidRequest', 'standard output is a terminal; redirect it to a file or a pipe');
  const out = fstatSync(STDOUT_FD);
  const looking = fs.stat(image).catch(() => undefined);
  const disk = await abortable(looking, signal);
  if (out.isFile() && disk?.ino === out.ino && disk.dev === out.dev)
    throw new DiskliftError('InvalidRequest', `${image}: is also standard output`);
}
