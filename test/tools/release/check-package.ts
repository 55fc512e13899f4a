/** Checks the npm package: its files, and that it works in an otherwise empty project. */

import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runCommand } from '../../helpers/run-command.ts';
import type { Violation } from '../violation.ts';
import { inScratch, run } from './build-release.ts';

const ROOT = path.join(import.meta.dirname, '..', '..', '..');
const MIB = 1024 * 1024;

/** The files that ship beside dist. */
const BESIDE_DIST = [
  'CHANGELOG.md',
  'LICENSE',
  'README.md',
  'SECURITY.md',
  'manifests/crd.yaml',
  'manifests/crd-schedules.yaml',
  'package.json',
];
const OF_DIST = /^dist\/(?:.*\.(?:js|d\.ts|html|css|svg|proto))$/;
/** The program requires these. */
const REQUIRED = [
  ...['dist/bin.js', 'dist/index.js', 'dist/index.d.ts', 'dist/sources/changed/snapshot-metadata/schema.proto'],
  ...BESIDE_DIST,
];

export async function checkPackageFiles(packageFile: string): Promise<Violation[]> {
  const listing = await run('tar', ['-tzf', packageFile], path.dirname(packageFile));
  const files = listing
    .trim()
    .split('\n')
    .map((line) => line.replace(/^package\//, ''));
  const surplus = files.filter((file) => !OF_DIST.test(file) && !BESIDE_DIST.includes(file));
  const missing = REQUIRED.filter((file) => !files.includes(file));
  const page = files.some((file) => file.endsWith('.html')) ? [] : ['the status page'];
  return [
    ...surplus.map((file) => violation('package-files', file, 'does not belong in the package')),
    ...[...missing, ...page].map((file) => violation('package-files', file, 'is missing in the package')),
  ];
}

/** Installs the package into an empty project at `project`. */
export async function installPackage(packageFile: string, project: string): Promise<void> {
  mkdirSync(project, { recursive: true });
  writeFileSync(path.join(project, 'package.json'), '{ "name": "empty", "private": true, "type": "module" }\n');
  await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', packageFile], project);
}

/** The checks of a project that {@link installPackage} has made, by their rules. */
export const INSTALLED_CHECKS = {
  'package-version': checkVersion,
  'package-stream': checkStream,
  'package-import': checkImport,
  'package-types': checkTypes,
  'package-example': checkExample,
} satisfies Record<string, (project: string, version: string) => Promise<Violation[]>>;

type PackageRule = keyof typeof INSTALLED_CHECKS | 'package-files';

export async function checkInstalled(project: string, version: string): Promise<Violation[]> {
  const violations: Violation[] = [];
  for (const check of Object.values(INSTALLED_CHECKS)) violations.push(...(await check(project, version)));
  return violations;
}

const programOf = (project: string) => path.join(project, 'node_modules', '.bin', 'disklift');

async function checkVersion(project: string, version: string): Promise<Violation[]> {
  const { code, stdout, stderr } = await runCommand(programOf(project), ['--version'], { cwd: project });
  if (code === 0 && stdout.toString() === `${version}\n`) return [];
  return [violation('package-version', 'disklift --version', `ended with ${code} and "${stdout}${stderr}", not "${version}"`)];
}

/** Streams a disk, and lets qemu-img compare the image with it. */
async function checkStream(project: string): Promise<Violation[]> {
  return inScratch(async (scratch) => {
    const [disk, image] = [path.join(scratch, 'disk.img'), path.join(scratch, 'disk.qcow2')];
    await createDisk(disk);
    const { code, stdout, stderr } = await runCommand(programOf(project), ['stream', disk], { cwd: scratch });
    if (code !== 0) return [violation('package-stream', 'disklift stream', `ended with ${code}: ${stderr}`)];
    writeFileSync(image, stdout);
    const judged = await runCommand('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', disk, image]);
    return judged.code === 0 ? [] : [violation('package-stream', 'disklift stream', `qemu-img compare: ${judged.stdout}${judged.stderr}`)];
  });
}

/** Names that `src/index.ts` exports as values. */
async function publicNames(): Promise<string[]> {
  return Object.keys((await import('../../../src/index.ts')) as object).sort();
}

async function checkImport(project: string): Promise<Violation[]> {
  const script = "console.log(JSON.stringify(Object.keys(await import('disklift')).sort()))";
  const { code, stdout, stderr } = await runCommand(process.execPath, ['--input-type=module', '--eval', script], { cwd: project });
  if (code !== 0) return [violation('package-import', "import('disklift')", stderr)];
  const names = JSON.parse(stdout.toString()) as string[];
  const missing = (await publicNames()).filter((name) => !names.includes(name));
  return missing.map((name) => violation('package-import', "import('disklift')", `has no ${name}`));
}

/** A program in TypeScript that uses every public name; its compiler reads the package's declarations strictly. */
async function checkTypes(project: string): Promise<Violation[]> {
  const names = (await publicNames()).join(', ');
  writeFileSync(path.join(project, 'use.mts'), `import { ${names} } from 'disklift';\nexport const used = [${names}];\n`);
  const types = path.join(project, 'node_modules', '@types');
  mkdirSync(types, { recursive: true });
  // The package names no types of Node: its users have those of the Node that they run.
  linkOnce(path.join(ROOT, 'node_modules', '@types', 'node'), path.join(types, 'node'));
  linkOnce(path.join(ROOT, 'node_modules', 'undici-types'), path.join(project, 'node_modules', 'undici-types'));
  const tsc = path.join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const options = [
    '--noEmit',
    '--strict',
    '--module',
    'nodenext',
    '--target',
    'es2024',
    '--lib',
    'es2024,esnext.disposable',
    '--types',
    'node',
  ];
  const { code, stdout } = await runCommand(process.execPath, [tsc, ...options, 'use.mts'], { cwd: project });
  return code === 0 ? [] : [violation('package-types', 'use.mts', stdout.toString().split('\n').slice(0, 3).join(' '))];
}

/** Runs the example of README.md, "Use it as a library", on a disk with data, zeros and a hole. */
async function checkExample(project: string): Promise<Violation[]> {
  const readme = readFileSync(path.join(project, 'node_modules', 'disklift', 'README.md'), 'utf8');
  const example = /^## Use it as a library$.*?^```js\n(.*?)^```$/ms.exec(readme)?.[1];
  if (example === undefined) return [violation('package-example', 'README.md', 'has no example in JavaScript')];
  writeFileSync(path.join(project, 'example.mjs'), example);
  await createDisk(path.join(project, 'disk.raw'));
  const { code, stderr } = await runCommand(process.execPath, ['example.mjs'], { cwd: project });
  if (code !== 0) return [violation('package-example', 'README.md', `the example ended with ${code}: ${stderr}`)];
  const judged = await runCommand('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', 'disk.raw', 'disk.qcow2'], { cwd: project });
  return judged.code === 0 ? [] : [violation('package-example', 'README.md', `qemu-img compare: ${judged.stdout}${judged.stderr}`)];
}

/** A disk of 16 MiB with data, zeros and a hole. */
async function createDisk(file: string): Promise<void> {
  const content = Buffer.alloc(4 * MIB);
  content.fill('disklift', MIB, 2 * MIB);
  writeFileSync(file, content);
  await run('truncate', ['--size', '16M', file], path.dirname(file));
}

function linkOnce(target: string, link: string): void {
  try {
    symlinkSync(target, link);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

function violation(rule: PackageRule, where: string, what: string): Violation {
  return { rule, where, what };
}
