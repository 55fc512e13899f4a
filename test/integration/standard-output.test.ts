/** Unwritable standard output and standard error cause neither a success nor an internal error. */

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { diskliftLine } from '../helpers/disklift.ts';
import { runShell } from '../helpers/run-command.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';

const MIB = 1024 * 1024;

describe('standard output that cannot be written to', () => {
  const temp = useTempDir();
  let stream: string;
  let measure: string;

  beforeEach(async () => {
    const disk = await createDisk(temp('disk.img'), 4 * MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
    stream = diskliftLine(['stream', disk]);
    measure = diskliftLine(['measure', '--output', 'json', disk]);
  });

  it('is refused when it is closed, by all commands that print their result', async () => {
    const receive = diskliftLine(['receive', '--listen', '127.0.0.1:0', '--output', '-']);
    for (const line of [stream, measure, receive]) {
      const { code, stderr } = await runShell(`${line} >&-`);
      assert.equal(code, 2, stderr);
      assert.match(stderr, /^disklift: standard output is closed; redirect it [^\n]+\n$/);
    }
  });

  it('may be /dev/null', async () => {
    for (const line of [stream, measure]) assert.equal((await runShell(`${line} > /dev/null`)).code, 0);
  });

  it('fails in one line when it is full, for images and texts', async () => {
    for (const line of [stream, measure]) {
      const { code, stderr } = await runShell(`${line} > /dev/full`);
      assert.equal(code, 1);
      assert.match(stderr, /^disklift: standard output: cannot write at byte 0: ENOSPC\n$/);
    }
  });

  it('fails without a message when its reader has closed the pipe', async () => {
    const { stdout, stderr } = await runShell(
      `set +o pipefail; { ${measure}; echo $? > '${temp('code')}'; } | true; sleep 0.1; cat '${temp('code')}'`,
    );
    // Output that is written before the reader closes its end is lost without a failure.
    assert.match(stdout.toString(), /^[01]\n$/);
    assert.equal(stderr, '');
  });

  it('fails an export when the status cannot be written', async () => {
    const manifest = `
apiVersion: disklift.dev/v1alpha1
kind: DiskExport
metadata: { name: a, namespace: n }
spec:
  source: { persistentVolumeClaim: { claimName: c } }
  destination: { tcp: { host: 127.0.0.1, port: 9, protocol: Raw } }
  backoffLimit: 0
`;
    await writeFile(temp('request.yaml'), manifest);
    await mkdir(temp('volume'));
    await createDisk(temp('volume/disk.img'), MIB, []);
    const { code, stderr } = await runShell(
      `${diskliftLine(['export', '-f', temp('request.yaml'), '--volume', `c=${temp('volume')}`])} > /dev/full`,
    );
    assert.equal(code, 1);
    assert.match(stderr, /standard output: cannot write at byte 0: ENOSPC\n$/);
    assert.doesNotMatch(stderr, /internal error/);
  });

  it('lets an image be written although standard error cannot be written to', async () => {
    for (const place of ['2> /dev/full', '2>&-']) {
      const { code } = await runShell(`${stream} --progress json ${place} > '${temp('out.qcow2')}'`);
      assert.equal(code, 0, place);
    }
    assert.equal((await runShell(`${stream} --progress json -c 5 2> /dev/full`)).code, 2);
  });
});

describe('a TMPDIR with a long path', () => {
  const temp = useTempDir();

  it('does not keep images of other formats from being read', async () => {
    await createDisk(temp('disk.raw'), 2 * MIB, [{ offsetBytes: 0, lengthBytes: MIB, content: 'random' }]);
    assert.equal((await runShell(`qemu-img convert -f raw -O vdi '${temp('disk.raw')}' '${temp('disk.vdi')}'`)).code, 0);
    const line = diskliftLine(['stream', '-f', 'vdi', temp('disk.vdi')]);
    for (const length of [60, 90, 120]) {
      const directory = path.join(temp('.'), 't'.repeat(length));
      await mkdir(directory);
      const { code, stderr } = await runShell(`TMPDIR='${directory}' ${line} > /dev/null; code=$?; ls -A '${directory}' >&2; exit $code`);
      assert.deepEqual([code, stderr], [0, '']);
    }
  });
});
