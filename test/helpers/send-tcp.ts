/** Sends a disk by TCP as an export does, with digest and seal, in one attempt. */

import { systemClock } from '../../src/common/clock.ts';
import { digestImage } from '../../src/image/digest.ts';
import { prepareImage } from '../../src/image/prepare-image.ts';
import { createNetworkAccess } from '../../src/network/destination-policy.ts';
import type { Receipt, TransferContext } from '../../src/targets/contract.ts';
import { createTcpTarget, type TcpTargetOptions } from '../../src/targets/tcp/tcp-target.ts';
import { DEFAULT_OPTIONS, NEVER, openSource } from './image-in-process.ts';
import { transferContext } from './transfer-context.ts';

export interface TcpSending extends Partial<TcpTargetOptions> {
  port: number;
  /** Whether the sender compares a wrong digest. */
  wrongDigest?: boolean;
  context?: Partial<TransferContext>;
}

export async function sendTcp(diskPath: string, { wrongDigest = false, context = {}, ...options }: TcpSending): Promise<Receipt> {
  await using prepared = await prepareImage({
    openSource: () => openSource(diskPath),
    qcow2: DEFAULT_OPTIONS,
    zeroDetection: 'content',
    signal: NEVER,
    clock: systemClock,
    warn: (message) => {
      throw new Error(message);
    },
  });
  const { image, sha256 } = digestImage(prepared.image);
  const target = createTcpTarget({
    host: '127.0.0.1',
    protocol: 'Acknowledged',
    access: createNetworkAccess(),
    clock: systemClock,
    exportUid: 'uid-1',
    disk: 'a.img',
    ...options,
  });
  const seal = async () => {
    const digest = await sha256(NEVER);
    await prepared.seal();
    return { sha256: wrongDigest ? '0'.repeat(64) : digest };
  };
  return await target.send(image, transferContext({ seal, ...context }));
}
