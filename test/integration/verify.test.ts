import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFile, mkdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createImage } from '../helpers/create-image.ts';
import { disklift } from '../helpers/disklift.ts';
import { freePort } from '../helpers/free-port.ts';
import { startNginx } from '../helpers/nginx.ts';
import { serveDirectory } from '../helpers/remote-images.ts';
import { runCommand } from '../helpers/run-command.ts';
import { BUCKET } from '../helpers/s3-fake.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { createTestAuthority } from '../helpers/test-authority.ts';
import { requireVersitygw, startVersitygw, VERSITYGW_KEYS } from '../helpers/versitygw.ts';

interface Verdict {
  image: string;
  isGood: boolean;
  sha256?: string;
  receipt: string;
  base?: string;
  problems: { kind: string; message: string; offset?: number; guestOffset?: number }[];
}

const KEYS = { AWS_ACCESS_KEY_ID: VERSITYGW_KEYS.accessKeyId, AWS_SECRET_ACCESS_KEY: VERSITYGW_KEYS.secretAccessKey };

async function verify(
  images: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number | null; verdicts: Verdict[]; stderr: string }> {
  const { code, stdout, stderr } = await disklift(['verify', '--output', 'json', ...images], { env });
  const lines = stdout.toString().split('\n').slice(0, -1);
  return { code, verdicts: lines.map((line) => JSON.parse(line) as Verdict), stderr };
}

async function sha256(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
}

/** Writes the receipt of an image, as an export leaves it. */
async function writeReceipt(file: string, base?: string): Promise<void> {
  const facts = async (image: string) => {
    const info = await runCommand('qemu-img', ['info', '-U', '--output=json', image]);
    const { 'virtual-size': virtualSizeBytes } = JSON.parse(info.stdout.toString()) as { 'virtual-size': number };
    return { place: `backups/${path.basename(image)}`, sizeBytes: (await stat(image)).size, sha256: await sha256(image), virtualSizeBytes };
  };
  const receipt = {
    format: 'disklift-receipt/1',
    image: {
      ...(await facts(file)),
      proof: 'etag',
      dataClusters: 1,
      layout: 'Converted',
      options: { clusterSizeBytes: 65_536, version: 3, refcountBits: 16 },
    },
    disk: { namespace: 'vms', source: { kind: 'PersistentVolumeClaim', name: 'fedora' }, path: 'disk.img' },
    export: { name: 'nightly', uid: '1' },
    time: '2026-11-30T00:00:00Z',
    type: base === undefined ? 'Full' : 'Incremental',
    readBytes: 1,
    ...(base === undefined ? {} : { base: await facts(base) }),
    points: {},
  };
  await writeFile(`${file}.json`, JSON.stringify(receipt));
}

async function flipBit(file: string, at: number): Promise<void> {
  const bytes = await readFile(file);
  bytes[at] = (bytes[at] as number) ^ 1;
  await writeFile(file, bytes);
}

describe('disklift verify', () => {
  const temp = useTempDir();
  let full: string;
  let delta: string;
  beforeEach(async () => {
    [full, delta] = [temp('full.qcow2'), temp('delta.qcow2')];
    await createImage(full, { format: 'qcow2', size: '8M' });
    await runCommand('qemu-io', ['-c', 'write -P 3 0 3M', full]);
    await createImage(delta, { format: 'qcow2', backing: { name: 'full.qcow2', format: 'qcow2' } });
    await runCommand('qemu-io', ['-c', 'write -P 7 1M 128k', delta]);
    await writeReceipt(full);
    await writeReceipt(delta, full);
  });

  it('says in one line an image that a chain of files is good', async () => {
    const { code, stdout, stderr } = await disklift(['verify', delta]);
    assert.deepEqual([code, stderr], [0, '']);
    const [first, second, rest] = stdout.toString().split('\n');
    assert.equal(first, `good  ${delta}: ${sizeText(await stat(delta))}, SHA-256 ${await sha256(delta)}, its receipt matches`);
    assert.ok(second?.startsWith(`good  ${full}: `) && second.endsWith(', its receipt matches'), second);
    assert.equal(rest, '');
  });

  const sizeText = ({ size }: { size: number }) => `${size % 1024 === 0 ? size / 1024 : (size / 1024).toFixed(1)} KiB`;

  it('verifies a base once, however many images need it', async () => {
    const { code, verdicts } = await verify([delta, full, delta]);
    assert.equal(code, 0);
    assert.deepEqual(
      verdicts.map(({ image }) => image),
      [delta, full],
    );
  });

  it('reads a chain from an HTTP server', async () => {
    await using server = await serveDirectory(temp('.'), temp('nginx'));
    const { code, verdicts } = await verify([`${server.url}delta.qcow2`]);
    assert.equal(code, 0);
    assert.deepEqual(
      verdicts.map(({ image, receipt, sha256: hash }) => [image, receipt, hash]),
      [
        [`${server.url}delta.qcow2`, 'matches', await sha256(delta)],
        [`${server.url}full.qcow2`, 'matches', await sha256(full)],
      ],
    );
  });

  it('reads a chain from an S3 server with the variables of the AWS tools', async function () {
    requireVersitygw(this);
    await using server = await startVersitygw(temp('objects'), BUCKET);
    await mkdir(server.objectPath(BUCKET, 'backups'), { recursive: true });
    for (const name of ['full.qcow2', 'full.qcow2.json', 'delta.qcow2', 'delta.qcow2.json'])
      await copyFile(temp(name), server.objectPath(BUCKET, `backups/${name}`));
    const env = { ...KEYS, AWS_ENDPOINT_URL: server.url };
    const { code, verdicts, stderr } = await verify([`s3://${BUCKET}/backups/delta.qcow2`], env);
    assert.equal(code, 0, stderr);
    assert.deepEqual(
      verdicts.map(({ receipt }) => receipt),
      ['matches', 'matches'],
    );
    const wrongKeys = await disklift(['verify', `s3://${BUCKET}/backups/delta.qcow2`], { env: { ...env, AWS_SECRET_ACCESS_KEY: 'wrong' } });
    assert.equal(wrongKeys.code, 1);
    assert.match(wrongKeys.stdout.toString(), /^BAD .*the secret key does not belong to the access key/);
    assert.doesNotMatch(wrongKeys.stdout.toString(), new RegExp(VERSITYGW_KEYS.accessKeyId));
  });

  it('reads from an HTTPS server whose authority the user names', async () => {
    const authority = await createTestAuthority(temp('.'));
    const { certificateFile, keyFile } = await authority.issue('server', 'IP:127.0.0.1');
    const listen = await freePort();
    const secure = `} server { listen 127.0.0.1:${listen} ssl; ssl_certificate ${certificateFile}; ssl_certificate_key ${keyFile}; root ${temp('.')};`;
    await using _server = await startNginx(temp('nginx'), secure);
    const url = `https://127.0.0.1:${listen}/delta.qcow2`;
    const known = await disklift(['verify', '--ca-file', authority.caFile, url]);
    assert.deepEqual([known.code, known.stderr], [0, '']);
    const unknown = await disklift(['verify', url]);
    assert.equal(unknown.code, 1);
    assert.match(unknown.stdout.toString(), /^BAD .*TLS: the certificate is signed by an authority that is not trusted\n$/);
  });

  it('finds one flipped bit of the data by the receipt, and names the image only', async () => {
    await flipBit(full, (await stat(full)).size - 100);
    const { code, verdicts, stderr } = await verify([delta]);
    assert.equal(code, 1);
    assert.deepEqual(
      verdicts.map(({ isGood }) => isGood),
      [true, false],
    );
    assert.deepEqual(
      verdicts[1]?.problems.map(({ kind }) => kind),
      ['receipt', 'base'],
    );
    assert.equal(stderr, 'disklift: 1 of 2 images are bad\n');
  });

  it('finds a flipped bit of a table without a receipt, with its place and what it touches', async () => {
    // The L2 table lies in the fifth cluster of an image of QEMU.
    await flipBit(full, 4 * 65_536 + 2);
    const { code, stdout } = await disklift(['verify', full.replace('full', './full')]);
    assert.equal(code, 1);
    assert.match(stdout.toString(), /^BAD .*full\.qcow2: .*(and \d+ more problems; --output json shows them)/);
    const { verdicts } = await verify([full]);
    const entry = verdicts[0]?.problems.find(({ offset }) => offset === 4 * 65_536);
    assert.equal(entry?.guestOffset, 0, JSON.stringify(verdicts));
  });

  it('finds an image that was cut, and a base that is not there', async () => {
    await truncate(full, 100_000);
    assert.ok((await verify([full])).verdicts[0]?.problems.some(({ kind }) => kind === 'truncated'));
    await truncate(full, 0);
    const empty = await verify([full]);
    assert.match(empty.verdicts[0]?.problems.map(({ message }) => message).join() ?? '', /is no qcow2 image/);
    await runCommand('rm', [full]);
    const { code, verdicts } = await verify([delta]);
    assert.equal(code, 1);
    assert.deepEqual(
      verdicts.map(({ isGood }) => isGood),
      [true, false],
    );
  });

  it('finds a base that was made again since, by the receipt of the image above', async () => {
    await runCommand('qemu-io', ['-c', 'write -P 4 0 64k', full]);
    await writeReceipt(full);
    const { code, verdicts } = await verify([delta]);
    assert.equal(code, 1);
    assert.deepEqual(
      verdicts[1]?.problems.map(({ kind }) => kind),
      ['base'],
    );
    assert.match(verdicts[1]?.problems[0]?.message ?? '', /the receipt of .*delta\.qcow2 says/);
  });

  it('finds an image whose header names another base than its receipt', async () => {
    await copyFile(full, temp('other.qcow2'));
    await runCommand('qemu-img', ['rebase', '-u', '-b', 'other.qcow2', '-F', 'qcow2', delta]);
    const { verdicts } = await verify([delta]);
    assert.ok(
      verdicts[0]?.problems.some(({ kind }) => kind === 'base'),
      JSON.stringify(verdicts),
    );
  });

  for (const [what, text] of [
    ['is no JSON', '{'],
    ['is of another format', '{"format": "other/1"}'],
    ['is too large', ' '.repeat(70_000)],
  ] as const)
    it(`calls an image bad whose receipt ${what}`, async () => {
      await writeFile(`${full}.json`, text);
      const { code, verdicts } = await verify([full]);
      assert.equal(code, 1);
      assert.deepEqual(
        verdicts[0]?.problems.map(({ kind }) => kind),
        ['receipt'],
      );
    });

  for (const name of [
    '../secret.qcow2',
    '/etc/passwd',
    'https://elsewhere.example/a.qcow2',
    's3://other/a.qcow2',
    'json:{}',
    'delta.qcow2',
  ])
    it(`reads no backing file named ${name}`, async () => {
      await runCommand('qemu-img', ['rebase', '-u', '-b', name, '-F', 'qcow2', delta]);
      await runCommand('rm', [`${delta}.json`]);
      await mkdir(temp('images'));
      await copyFile(delta, temp('images/delta.qcow2'));
      await copyFile(full, temp('secret.qcow2'));
      await using server = await serveDirectory(temp('images'), temp('nginx'));
      for (const image of [temp('images/delta.qcow2'), `${server.url}delta.qcow2`]) {
        const { code, verdicts } = await verify([image]);
        assert.equal(code, 1);
        assert.ok(
          verdicts.every(({ image: seen }) => seen === image),
          JSON.stringify(verdicts),
        );
        assert.match(verdicts.at(-1)?.problems[0]?.message ?? '', /backing file/);
        const streamed = await disklift(['stream', '-f', 'qcow2', image]);
        assert.notEqual(streamed.code, 0);
        assert.equal(streamed.stdout.length, 0);
      }
    });

  it('calls a file bad that is no qcow2 image and has no receipt', async () => {
    const raw = temp('disk.img');
    await writeFile(raw, 'some bytes of a guest');
    assert.match((await verify([raw])).verdicts[0]?.problems[0]?.message ?? '', /is no qcow2 image, and it has no receipt/);
  });

  it('ends with 2 for names that cannot be images', async () => {
    for (const image of ['s3://bucket', 'http://[bad', 'https://host/directory/']) {
      const { code, stderr } = await disklift(['verify', image]);
      assert.equal(code, 2, stderr);
      assert.match(stderr, /^disklift: [^\n]+\n$/);
    }
  });
});
