import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { systemClock } from '../../../../../src/common/clock.ts';
import { DiskliftError } from '../../../../../src/common/errors.ts';
import type { RangesQuestion } from '../../../../../src/sources/changed/snapshot-metadata/contract.ts';
import { listRanges } from '../../../../../src/sources/changed/snapshot-metadata/list-ranges.ts';
import { failsWith } from '../../../../helpers/failure.ts';
import { createManualClock } from '../../../../helpers/manual-clock.ts';
import {
  CAPACITY_BYTES,
  NAMESPACE,
  type PlayedMessage,
  type PlayedService,
  type PlayedStream,
  playMetadataService,
} from '../../../../helpers/played-metadata-service.ts';
import { useTempDir } from '../../../../helpers/temp-dir.ts';
import { createTestAuthority } from '../../../../helpers/test-authority.ts';
import { until } from '../../../../helpers/until.ts';

const KIB = 1024;
const UNAVAILABLE = { code: 14, details: 'the storage restarts' };

describe('lists of the SnapshotMetadata service', () => {
  const temp = useTempDir();
  let played: PlayedService | undefined;

  afterEach(async () => {
    await played?.[Symbol.asyncDispose]();
    played = undefined;
  });

  function question(service: RangesQuestion['service'], more: Partial<RangesQuestion> = {}): RangesQuestion {
    const signal = new AbortController().signal;
    return {
      service,
      snapshot: { namespace: NAMESPACE, name: 'today' },
      baseHandle: 'h-1',
      clock: systemClock,
      random: () => 0,
      signal,
      ...more,
    };
  }

  async function list(streams: readonly PlayedStream[], more: Partial<RangesQuestion> = {}) {
    played = await playMetadataService(temp, (_, index) => streams[index] ?? assert.fail(`call ${index}`));
    const { starts, ends, count, capacityBytes } = await listRanges(question(played.service, more));
    assert.equal(capacityBytes, CAPACITY_BYTES);
    return Array.from({ length: count }, (_, index) => [starts[index], ends[index]]);
  }

  const refused = (what: RegExp) => failsWith('ChangesRefused', what);

  it('are whole when the stream ends in order, and neighbours become one range', async () => {
    const messages: PlayedMessage[] = [
      { ranges: [[0, 4096]] },
      { ranges: [] },
      {
        ranges: [
          [4096, 4096],
          [16_384, 1],
        ],
      },
    ];
    assert.deepEqual(await list([{ messages }]), [
      [0, 8192],
      [16_384, 16_385],
    ]);
    assert.deepEqual(played?.requests, [
      {
        method: 'Delta',
        security_token: 'first-token',
        namespace: NAMESPACE,
        base_snapshot_id: 'h-1',
        target_snapshot_name: 'today',
        starting_offset: 0,
        max_results: 1024,
      },
    ]);
  });

  it('ask for the data of one snapshot when there is no base', async () => {
    assert.deepEqual(await list([{ messages: [{ ranges: [] }] }], { baseHandle: undefined }), []);
    assert.deepEqual([played?.requests[0]?.method, played?.requests[0]?.snapshot_name], ['Allocated', 'today']);
  });

  it('go on behind the last range, with the renewed token, after streams that broke off', async () => {
    const streams: PlayedStream[] = [
      { messages: [{ ranges: [[0, 4096]] }], end: UNAVAILABLE },
      { end: UNAVAILABLE },
      {
        messages: [
          {
            ranges: [
              [0, 8192],
              [65_536, 4096],
            ],
          },
        ],
        end: { code: 4, details: 'the stream took too long' },
      },
      { messages: [{ ranges: [] }] },
    ];
    played = await playMetadataService(temp, (_, index) => {
      writeFileSync(temp('token'), `token-${index}`);
      return streams[index] ?? assert.fail(`call ${index}`);
    });
    const { starts, ends, count } = await listRanges(question(played.service));
    assert.deepEqual([...starts.subarray(0, count)], [0, 65_536]);
    assert.deepEqual([...ends.subarray(0, count)], [8192, 69_632]);
    assert.deepEqual(
      played.requests.map(({ starting_offset, security_token }) => [starting_offset, security_token]),
      [
        [0, 'first-token'],
        [4096, 'token-0'],
        [4096, 'token-1'],
        [69_632, 'token-2'],
      ],
    );
  });

  it('are complete when the last byte of the volume was listed, also when the stream breaks off after it', async () => {
    assert.deepEqual(await list([{ messages: [{ ranges: [[0, CAPACITY_BYTES]] }], end: UNAVAILABLE }]), [[0, CAPACITY_BYTES]]);
  });

  it('fail when four streams in a row get no further', async () => {
    await assert.rejects(
      list(Array.from({ length: 4 }, () => ({ messages: [{ ranges: [] }], end: UNAVAILABLE }))),
      failsWith('SourceReadError', /answered UNAVAILABLE: the storage restarts/),
    );
    assert.equal(played?.requests.length, 4);
  });

  it('may have a last block of one length that goes on behind the end of the volume', async () => {
    const last = CAPACITY_BYTES - 1;
    assert.deepEqual(await list([{ messages: [{ style: 'FIXED_LENGTH', ranges: [[last, 64 * KIB]] }] }]), [[last, CAPACITY_BYTES]]);
  });

  const WRONG: [string, readonly PlayedMessage[], RegExp][] = [
    ['a range behind the end', [{ ranges: [[CAPACITY_BYTES, 512]] }], /and the volume at 1048576/],
    ['a range across the end', [{ ranges: [[CAPACITY_BYTES - 512, 513]] }], /ends at offset 1048577/],
    ['a fixed block behind the end', [{ style: 'FIXED_LENGTH', ranges: [[CAPACITY_BYTES, 512]] }], /and the volume at 1048576/],
    [
      'ranges in another order',
      [
        {
          ranges: [
            [8192, 512],
            [0, 512],
          ],
        },
      ],
      /the range at offset 0 comes after offset 8704/,
    ],
    [
      'ranges that overlap from message to message',
      [{ ranges: [[0, 8192]] }, { ranges: [[4096, 8192]] }],
      /at offset 4096 comes after offset 8192/,
    ],
    [
      'the same range twice',
      [
        {
          ranges: [
            [0, 512],
            [0, 512],
          ],
        },
      ],
      /comes after offset 512/,
    ],
    ['an empty range', [{ ranges: [[0, 0]] }], /a range of 0 bytes at offset 0/],
    ['a negative offset', [{ ranges: [[-512, 1024]] }], /at offset -512/],
    ['an offset beyond exact numbers', [{ ranges: [[2 ** 53, 512]] }], /at offset 9007199254740992/],
    ['two capacities', [{ ranges: [] }, { capacityBytes: 2 * CAPACITY_BYTES, ranges: [] }], /volumes of 1048576 and of 2097152 bytes/],
    ['two styles', [{ ranges: [] }, { style: 'FIXED_LENGTH', ranges: [] }], /styles VARIABLE_LENGTH and FIXED_LENGTH/],
    ['no style', [{ style: 'UNKNOWN', ranges: [] }], /style UNKNOWN/],
    [
      'blocks of one length that differ',
      [
        {
          style: 'FIXED_LENGTH',
          ranges: [
            [0, 512],
            [512, 1024],
          ],
        },
      ],
      /have 512 and 1024 bytes/,
    ],
    ['a negative capacity', [{ capacityBytes: -1, ranges: [] }], /a volume of -1 bytes/],
    ['no message', [], /ended without a message/],
  ];
  for (const [what, messages, message] of WRONG)
    it(`are refused with ${what}`, async () => {
      await assert.rejects(list([{ messages }]), refused(message));
    });

  it('are refused when another stream begins with what came before', async () => {
    const streams: PlayedStream[] = [{ messages: [{ ranges: [[0, 4096]] }], end: UNAVAILABLE }, { messages: [{ ranges: [[0, 4096]] }] }];
    await assert.rejects(list(streams), refused(/the range at offset 0 comes after offset 4096/));
  });

  it('are refused when messages without a range never end', async function () {
    this.timeout(60_000);
    await assert.rejects(list([{ end: 'endless' }]), refused(/10001 messages without a range/));
  });

  const STATUS: [number, string, (error: unknown) => boolean][] = [
    [3, 'INVALID_ARGUMENT', refused(/INVALID_ARGUMENT: no/)],
    [5, 'NOT_FOUND', failsWith('ChangesMissing', /does not have the snapshot any more/)],
    [7, 'PERMISSION_DENIED', failsWith('SourcePermissionDenied', /the verb get for volumesnapshots/)],
    [9, 'FAILED_PRECONDITION', refused(/does not track changed blocks/)],
    [11, 'OUT_OF_RANGE', refused(/refuses the offset/)],
    [12, 'UNIMPLEMENTED', refused(/has no such call/)],
    [16, 'UNAUTHENTICATED', failsWith('CredentialsInvalid', /audience/)],
    [10, 'ABORTED', failsWith('SourceReadError', /ABORTED/)],
    [13, 'INTERNAL', failsWith('SourceReadError', /INTERNAL/)],
    [4, 'DEADLINE_EXCEEDED', failsWith('SourceReadError', /DEADLINE_EXCEEDED/)],
    [8, 'RESOURCE_EXHAUSTED', failsWith('SourceReadError', /RESOURCE_EXHAUSTED/)],
  ];
  for (const [code, name, isExpected] of STATUS)
    it(`end with ${name} as the table says`, async () => {
      const isFinal = [3, 5, 7, 9, 11, 12].includes(code);
      const streams = Array.from({ length: isFinal ? 1 : 4 }, () => ({ end: { code, details: 'no\n\u001b[2J' } }));
      await assert.rejects(list(streams), (error) => {
        assert.ok(!(error as Error).message.includes('\u001b'));
        return isExpected(error);
      });
      assert.equal(played?.requests.length, streams.length);
    });

  it('end at once when they are cancelled, whatever hangs', async () => {
    played = await playMetadataService(temp, () => ({ messages: [{ ranges: [] }], end: 'hangs' }));
    const controller = new AbortController();
    const listing = listRanges(question(played.service, { signal: controller.signal }));
    await until('the stream is open', () => played?.openCount() === 1);
    controller.abort(new DiskliftError('Cancelled', 'enough'));
    await assert.rejects(listing, failsWith('Cancelled', /enough/));
    await until('the stream is closed', () => played?.openCount() === 0);
  });

  // No message, because one that arrives late would start the limit anew.
  it('end when the service is silent for five minutes', async () => {
    played = await playMetadataService(temp, () => ({ messages: [], end: 'hangs' }));
    const clock = createManualClock();
    const listing = listRanges(question(played.service, { clock, random: () => 0 }));
    const rejected = assert.rejects(listing, failsWith('SourceReadError', /sent nothing for 300 seconds/));
    for (let attempt = 1; attempt <= 4; attempt += 1) {
      await until('the stream is open', () => played?.openCount() === 1);
      await clock.untilWaiting(300_000);
      await clock.advance(300_000);
      await until('the stream is closed', () => played?.openCount() === 0);
    }
    await rejected;
  });

  it('end when a server accepts the connection and is silent', async () => {
    played = await playMetadataService(temp, () => assert.fail('no call'));
    const { service } = played;
    const silent = net.createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const clock = createManualClock();
    const controller = new AbortController();
    const { port } = silent.address() as AddressInfo;
    const listing = listRanges(
      question({ ...service, address: `snapshot-metadata.storage:${port}` }, { clock, signal: controller.signal }),
    );
    const rejected = assert.rejects(listing, failsWith('Cancelled', /enough/));
    await clock.untilWaiting(20_000);
    controller.abort(new DiskliftError('Cancelled', 'enough'));
    await rejected;
    silent.close();
  });

  it('are refused from a server whose certificate is of another authority or name', async () => {
    played = await playMetadataService(temp, () => ({ messages: [{ ranges: [] }] }));
    const { service } = played;
    const other = await createTestAuthority(temp('.'));
    await assert.rejects(
      listRanges(question({ ...service, caCert: other.ca })),
      failsWith('SourceReadError', /UNAVAILABLE.*(certificate|signature)/),
    );
    const named = {
      ...service,
      address: service.address.replace('snapshot-metadata.storage', 'other.storage'),
      locate: async () => '127.0.0.1',
    };
    await assert.rejects(listRanges(question(named)), failsWith('SourceReadError', /UNAVAILABLE.*(altname|certificate)/i));
    await assert.rejects(listRanges(question({ ...service, caCert: 'nothing' })), refused(/caCert of .* is no certificate/));
    assert.equal(played.requests.length, 0);
  });

  it('go to no address that the policy refuses, and need HOST:PORT', async () => {
    played = await playMetadataService(temp, () => assert.fail('no call'));
    const { service } = played;
    const locate = () => Promise.reject(new DiskliftError('DestinationNotAllowed', 'not there'));
    await assert.rejects(listRanges(question({ ...service, locate })), failsWith('DestinationNotAllowed', /not there/));
    for (const address of ['snapshot-metadata.storage', 'https://a:1', 'a:1/path', 'u@a:1', ''])
      await assert.rejects(listRanges(question({ ...service, address })), refused(/is not HOST:PORT/));
  });

  it('are refused when the stream ends without a status', async () => {
    played = await playMetadataService(temp, () => assert.fail('no call'));
    const authority = await createTestAuthority(temp('.'));
    const { key, certificate } = await authority.issue('raw', 'DNS:snapshot-metadata.storage');
    const raw = http2.createSecureServer({ key, cert: certificate });
    raw.on('stream', (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.end();
    });
    raw.listen(0, '127.0.0.1');
    await once(raw, 'listening');
    const address = `snapshot-metadata.storage:${(raw.address() as AddressInfo).port}`;
    await assert.rejects(
      listRanges(question({ ...played.service, address, caCert: authority.ca })),
      (error) => error instanceof DiskliftError && error.code === 'SourceReadError' && error.retryable,
    );
    raw.close();
  });

  it('need a token', async () => {
    played = await playMetadataService(temp, () => assert.fail('no call'));
    writeFileSync(temp('token'), '\n');
    await assert.rejects(listRanges(question(played.service)), failsWith('CredentialsInvalid', /has no token/));
    const { service } = played;
    await assert.rejects(listRanges(question({ ...service, tokenFile: temp('none') })), failsWith('CredentialsInvalid', /cannot be read/));
  });
});
