/** The TCP target and `disklift receive` with other programs, over TLS, and with hostile peers. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DiskliftError } from '../../src/common/errors.ts';
import { freePort } from '../helpers/free-port.ts';
import { assertImageOf } from '../helpers/qemu-img.ts';
import { type ReceiverProcess, startReceiver } from '../helpers/receiver-process.ts';
import { resetSocket } from '../helpers/reset-socket.ts';
import { runCommand } from '../helpers/run-command.ts';
import { createRandom, SEED, SEED_TEXT } from '../helpers/seed.ts';
import { sendTcp } from '../helpers/send-tcp.ts';
import { createDisk } from '../helpers/sparse-disk.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { createTestAuthority } from '../helpers/test-authority.ts';

const MIB = 1024 * 1024;

describe('receive and send over TCP', () => {
  const temp = useTempDir();
  let disk: string;
  let file: string;
  beforeEach(async () => {
    disk = await createDisk(temp('a.img'), 16 * MIB, [{ offsetBytes: 100_000, lengthBytes: 9 * MIB, content: 'random' }]);
    file = temp('out.qcow2');
  });

  const failureOf = (sending: Promise<unknown>): Promise<DiskliftError> =>
    sending.then(
      () => assert.fail('it was sent'),
      (error: unknown) => (error instanceof DiskliftError ? error : Promise.reject(error)),
    );

  /** Sends as soon as a receiver listens. */
  async function sendWhenListening(port: number, options: Partial<Parameters<typeof sendTcp>[1]>) {
    for (const endMs = performance.now() + 10_000; ; await sleep(20))
      try {
        return await sendTcp(disk, { ...options, port });
      } catch (error) {
        if (!(error instanceof DiskliftError) || !error.message.endsWith('refused') || performance.now() > endMs) throw error;
      }
  }

  describe('with', () => {
    const receivers: Record<string, (port: number) => string> = {
      'nc -l': (port) => `nc -l 127.0.0.1 ${port} < /dev/null > '${file}'`,
      'socat -u': (port) => `socat -u TCP-LISTEN:${port},bind=127.0.0.1 CREATE:'${file}'`,
    };
    for (const [name, line] of Object.entries(receivers))
      it(`${name} as the receiver`, async () => {
        const port = await freePort();
        const peer = runCommand('bash', ['-c', line(port)]);
        const receipt = await sendWhenListening(port, { protocol: 'Raw' });
        assert.equal(receipt.proof, 'close');
        assert.equal((await peer).code, 0);
        await assertImageOf(file, disk);
      });

    it('nc -l that ends in the middle: the sender reports a failure', async () => {
      const port = await freePort();
      const peer = runCommand('bash', ['-c', `nc -l 127.0.0.1 ${port} < /dev/null | head -c ${3 * MIB} > '${file}'`]);
      const failure = await failureOf(sendWhenListening(port, { protocol: 'Raw' }));
      assert.deepEqual([failure.code, failure.retryable], ['DestinationUnreachable', true]);
      await peer;
    });

    const senders: Record<string, (port: number) => string> = {
      'nc -N': (port) => `nc -N 127.0.0.1 ${port} < '${temp('a.img')}'`,
      'socat -u': (port) => `socat -u OPEN:'${temp('a.img')}' TCP:127.0.0.1:${port}`,
    };
    for (const [name, line] of Object.entries(senders))
      it(`${name} as the sender`, async () => {
        await using receiver = await startReceiver(['--output', file, '--protocol', 'raw']);
        assert.equal((await runCommand('bash', ['-c', line(receiver.port)])).code, 0);
        assert.equal((await receiver.ended).code, 0);
        assert.ok(readFileSync(file).equals(readFileSync(disk)));
      });

    it('a raw sender that resets the connection: no image is stored, and the next sender is accepted', async () => {
      await using receiver = await startReceiver(['--output', file, '--protocol', 'raw']);
      // A client checks only whether a server listens.
      net.connect(receiver.port, '127.0.0.1').end();
      const socket = net.connect(receiver.port, '127.0.0.1');
      await once(socket, 'connect');
      await new Promise((resolve) => socket.write(Buffer.alloc(MIB), resolve));
      resetSocket(socket);
      const receipt = await sendTcp(disk, { port: receiver.port, protocol: 'Raw' });
      assert.equal(receipt.proof, 'close');
      assert.equal((await receiver.ended).code, 0);
      await assertImageOf(file, disk);
    });
  });

  describe('over TLS', () => {
    it('accepts senders that trust it, by Raw and by Acknowledged', async () => {
      const authority = await createTestAuthority(temp(''));
      await authority.issue('server', 'DNS:receiver.example');
      for (const protocol of ['Raw', 'Acknowledged'] as const) {
        const output = temp(`${protocol}.qcow2`);
        const flags = ['--protocol', protocol.toLowerCase(), '--tls-cert', temp('server.pem'), '--tls-key', temp('server.key')];
        await using receiver = await startReceiver(['--output', output, ...flags]);
        const to = { port: receiver.port, protocol };
        const wrongName = await failureOf(sendTcp(disk, { ...to, tls: { ca: authority.ca } }));
        assert.match(wrongName.message, /the certificate is for another name$/);
        const unknown = await failureOf(sendTcp(disk, { ...to, tls: { serverName: 'receiver.example' } }));
        assert.match(unknown.message, /authority that is not trusted$/);
        for (const { retryable } of [wrongName, unknown]) assert.equal(retryable, false);
        await failureOf(sendTcp(disk, { ...to, limits: { helloMs: 500, answerMs: 500 } }));
        const { proof } = await sendTcp(disk, { ...to, tls: { ca: authority.ca, serverName: 'receiver.example' } });
        assert.equal(proof, protocol === 'Raw' ? 'close' : 'digest');
        assert.equal((await receiver.ended).code, 0);
        await assertImageOf(output, disk);
      }
    });

    it('requires a certificate of senders if configured', async () => {
      const authority = await createTestAuthority(temp(''));
      await authority.issue('server', 'IP:127.0.0.1');
      const client = await authority.issue('client', 'DNS:sender.example');
      const flags = ['--tls-cert', temp('server.pem'), '--tls-key', temp('server.key'), '--tls-client-ca', temp('ca.pem')];
      await using receiver = await startReceiver(['--output', file, ...flags]);
      const nobody = await failureOf(sendTcp(disk, { port: receiver.port, tls: { ca: authority.ca } }));
      assert.equal(nobody.code, 'DestinationUnreachable');
      await sendTcp(disk, { port: receiver.port, tls: { ca: authority.ca, ...client } });
      assert.equal((await receiver.ended).code, 0);
      await assertImageOf(file, disk);
    });

    it('resets the connection when a raw image cannot be completed, so that the sender does not report success', async () => {
      const authority = await createTestAuthority(temp(''));
      await authority.issue('server', 'IP:127.0.0.1');
      const flags = ['--protocol', 'raw', '--tls-cert', temp('server.pem'), '--tls-key', temp('server.key')];
      await using receiver = await startReceiver(['--output', file, ...flags]);
      // Made while the image is under way.
      const seal = async () => {
        writeFileSync(file, 'precious');
        return {};
      };
      const failure = await failureOf(
        sendTcp(disk, { port: receiver.port, protocol: 'Raw', tls: { ca: authority.ca }, context: { seal } }),
      );
      assert.equal(failure.code, 'DestinationUnreachable');
      assert.equal((await receiver.ended).code, 1);
      assert.equal(readFileSync(file, 'utf8'), 'precious');
    });
  });

  describe('against', () => {
    /** @returns the bytes that the receiver sends until it closes the connection */
    async function say(receiver: ReceiverProcess, bytes: Uint8Array | string): Promise<string> {
      const socket = net.connect({ port: receiver.port, host: '127.0.0.1', allowHalfOpen: true });
      let answer = '';
      socket.on('data', (chunk: Buffer) => {
        answer += chunk;
      });
      socket.on('error', () => {});
      const closed = new Promise((resolve) => socket.once('end', resolve).once('close', resolve));
      socket.write(bytes);
      await closed;
      socket.destroy();
      return answer;
    }

    const hello = (changes: object) => `${JSON.stringify({ protocol: 'disklift/1', export: 'u', disk: 'd', size: 1000, ...changes })}\n`;

    const refused: [bytes: string, error: RegExp][] = [
      ['GET / HTTP/1.1\r\nHost: x\r\n\r\n', /bytes came before they were asked for/],
      ['GET / HTTP/1.1\n', /the first line is not a JSON object/],
      ['[]\n', /the first line is not a JSON object/],
      ['null\n', /the first line is not a JSON object/],
      [hello({ protocol: 'disklift/2' }), /the protocol is not disklift\/1/],
      [hello({ export: '' }), /"export" is not a text/],
      [hello({ disk: 7 }), /"disk" is not a text/],
      [hello({ size: 0 }), /"size" is not a number of bytes/],
      [hello({ size: 1e300 }), /"size" is not a number of bytes/],
      [hello({ size: '5' }), /"size" is not a number of bytes/],
      [hello({ fingerprint: {} }), /"fingerprint" is not a text/],
      [`${hello({})}too early`, /bytes came before they were asked for/],
      ['x'.repeat(4096), /a line is longer than 4096 bytes/],
      [`${hello({ disk: 'x'.repeat(5000) })}`, /a line is longer than 4096 bytes/],
    ];

    it('senders that do not speak the protocol: each receives a reason, and nothing is written', async () => {
      await using receiver = await startReceiver(['--output', file]);
      for (const [bytes, error] of refused) {
        const answer = JSON.parse(await say(receiver, bytes)) as { error: string; retryable?: boolean };
        assert.match(answer.error, error);
        assert.equal(answer.retryable, undefined);
      }
      assert.deepEqual(
        readdirSync(path.dirname(file)).filter((name) => name.startsWith('out')),
        [],
      );
      await sendTcp(disk, { port: receiver.port });
      assert.equal((await receiver.ended).code, 0);
    });

    it(`300 random first lines ${SEED_TEXT}`, async () => {
      await using receiver = await startReceiver(['--output', file]);
      const random = createRandom(SEED);
      const valid = Buffer.from(hello({ size: 10, fingerprint: 'f' }));
      const hostile = (): Buffer => {
        if (random() < 0.3) return Buffer.from(Array.from({ length: 1 + Math.floor(random() * 300) }, () => Math.floor(random() * 256)));
        const bytes = Buffer.from(valid);
        for (let changes = 1 + Math.floor(random() * 4); changes > 0; changes -= 1)
          bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
        return random() < 0.3 ? bytes.subarray(0, Math.floor(random() * bytes.length)) : bytes;
      };
      const attack = async () => {
        const socket = net.connect({ port: receiver.port, host: '127.0.0.1', allowHalfOpen: true });
        socket.on('error', () => {});
        const closed = new Promise((resolve) => socket.once('close', resolve));
        // Ends the connection, so that the receiver does not wait for the end of an incomplete line.
        socket.resume().end(hostile());
        socket.once('end', () => socket.destroy());
        await closed;
      };
      for (let round = 0; round < 20; round += 1) await Promise.all(Array.from({ length: 15 }, attack));
      assert.ok(!existsSync(file));
      await sendTcp(disk, { port: receiver.port });
      const { code, stdout } = await receiver.ended;
      assert.equal(code, 0);
      assert.equal(
        (JSON.parse(stdout.toString()) as { sha256: string }).sha256,
        createHash('sha256').update(readFileSync(file)).digest('hex'),
      );
      await assertImageOf(file, disk);
    });

    it('more bytes than were announced', async () => {
      await using receiver = await startReceiver(['--output', file]);
      const socket = net.connect({ port: receiver.port, host: '127.0.0.1', allowHalfOpen: true });
      const lines: string[] = [];
      socket.write(hello({ size: 5 }));
      for await (const chunk of socket) {
        lines.push(String(chunk));
        if (lines.length === 1) socket.write('123456');
      }
      assert.deepEqual(lines, ['{"offset":0}\n', '{"error":"more bytes came than were announced"}\n']);
      assert.ok(!existsSync(file));
    });

    it('many silent connections: they do not block other senders for long', async () => {
      await using receiver = await startReceiver(['--output', file]);
      const silent = Array.from({ length: 20 }, () => net.connect(receiver.port, '127.0.0.1').on('error', () => {}));
      await Promise.all(silent.map((socket) => once(socket, 'connect')));
      await sendTcp(disk, { port: receiver.port });
      const startMs = performance.now();
      assert.equal((await receiver.ended).code, 0);
      assert.ok(performance.now() - startMs < 3000);
      for (const socket of silent) socket.destroy();
      assert.ok(statSync(file).size > 9 * MIB);
    });
  });

  it('accepts the next sender after one was killed in the middle of its hello', async () => {
    await using receiver = await startReceiver(['--output', file]);
    const child = spawn('nc', ['127.0.0.1', String(receiver.port)], { stdio: ['pipe', 'ignore', 'ignore'] });
    child.stdin.write('{"protocol"');
    await sleep(100);
    child.kill('SIGKILL');
    await once(child, 'close');
    await sendTcp(disk, { port: receiver.port });
    assert.equal((await receiver.ended).code, 0);
  });
});
