/** buildah with a store of its own: it neither uses nor changes the machine's images, and can be removed at once. */

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { type CommandOptions, type CommandResult, runCommand } from './run-command.ts';

export interface ContainerStore extends AsyncDisposable {
  /** A path for files that the images are made of. */
  scratch(name: string): string;
  /** Runs a buildah command, which may fail. */
  attempt(args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /** Runs a buildah command that must succeed. @returns its standard output, trimmed */
  buildah(args: readonly string[], options?: CommandOptions): Promise<string>;
}

/**
 * vfs and chroot need neither overlay mounts nor a container runtime, so this works inside containers and virtual
 * machines alike.
 */
const ENV = { BUILDAH_ISOLATION: 'chroot', STORAGE_DRIVER: 'vfs' };

export async function createContainerStore(): Promise<ContainerStore> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'disklift-images-'));
  const location = ['--root', path.join(directory, 'root'), '--runroot', path.join(directory, 'run')];

  const attempt = (args: readonly string[], options: CommandOptions = {}) =>
    runCommand('buildah', [...location, ...args], { ...options, env: { ...ENV, ...options.env } });

  async function buildah(args: readonly string[], options?: CommandOptions): Promise<string> {
    const result = await attempt(args, options);
    assert.equal(result.code, 0, `buildah ${args.join(' ')}:\n${result.stdout}${result.stderr}`);
    return result.stdout.toString().trim();
  }

  return {
    scratch: (name) => path.join(directory, name),
    attempt,
    buildah,
    async [Symbol.asyncDispose]() {
      await buildah(['rm', '--all']);
      await rm(directory, { recursive: true, force: true });
    },
  };
}
