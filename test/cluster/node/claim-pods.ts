/** Pods of KubeVirt's user that run a script of Node with one claim, under Pod Security `restricted`. */

import { IMAGE_NAME } from '../../helpers/container-image.ts';
import { QEMU_USER } from '../../helpers/kubevirt-disk.ts';

/** The disk within the pods, by the claim's volume mode. */
const DISK_PATHS = { Filesystem: '/disks/disk.img', Block: '/dev/vmdisk' } as const;

export interface ClaimPod {
  name: string;
  claimName: string;
  mode?: 'Filesystem' | 'Block';
  readOnly?: boolean;
  /** Its variable `disk` is the path of the disk. */
  script: string;
}

export function claimPod({ name, claimName, mode = 'Filesystem', readOnly = false, script }: ClaimPod): object {
  const disk = DISK_PATHS[mode];
  const volume =
    mode === 'Block'
      ? { volumeDevices: [{ name: 'disk', devicePath: disk }] }
      : { volumeMounts: [{ name: 'disk', mountPath: '/disks', readOnly }] };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 5,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: QEMU_USER,
        runAsGroup: QEMU_USER,
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [
        {
          name: 'main',
          image: IMAGE_NAME,
          imagePullPolicy: 'Never',
          command: ['/nodejs/bin/node', '-e', `const disk = ${JSON.stringify(disk)};\n${script}`],
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
          ...volume,
        },
      ],
      volumes: [{ name: 'disk', persistentVolumeClaim: { claimName, readOnly } }],
    },
  };
}

/**
 * Writes 1 MiB of random bytes once, and then two counters in turn for as long as it runs, each at once on the storage:
 * at one moment the first is the second, or one more.
 */
export const WRITER = `
  process.once('SIGTERM', () => process.exit());
  const fs = require('fs');
  const file = fs.openSync(disk, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o660);
  if (disk.endsWith('.img')) fs.ftruncateSync(file, 32 * 1048576);
  fs.writeSync(file, require('crypto').randomBytes(1048576), 0, 1048576, 4 * 1048576);
  fs.fsyncSync(file);
  const block = Buffer.alloc(4096);
  let count = 0;
  const write = () => {
    count += 1;
    for (const offset of [0, 2 * 1048576]) {
      block.writeUInt32LE(count);
      fs.writeSync(file, block, 0, block.length, offset);
      fs.fsyncSync(file);
    }
    if (count === 1) console.log('writing');
    setImmediate(write);
  };
  write();
`;

/** Prints what {@link WRITER} has written, as {@link WrittenDisk}. */
export const READER = `
  const fs = require('fs');
  const file = fs.openSync(disk, 'r');
  const read = (length, offset) => {
    const buffer = Buffer.alloc(length);
    fs.readSync(file, buffer, 0, length, offset);
    return buffer;
  };
  const counters = [0, 2 * 1048576].map((offset) => read(4, offset).readUInt32LE());
  const sha256 = require('crypto').createHash('sha256').update(read(1048576, 4 * 1048576)).digest('hex');
  console.log(JSON.stringify({ counters, sha256 }));
`;

export interface WrittenDisk {
  counters: [first: number, second: number];
  /** The hash of the random bytes. */
  sha256: string;
}
