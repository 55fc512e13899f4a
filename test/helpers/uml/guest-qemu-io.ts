/** qemu-io in a guest uses a disk as a running VM does: it holds the locks while the disk is open. */

import type { UmlGuest } from './uml-guest.ts';

/**
 * Resolves when qemu-io has the disk open for writing; disposing ends it. One at a time.
 * @param locking QEMU's option of this name; with 'off' QEMU opens disks that cannot be locked
 */
export async function openInGuest(guest: UmlGuest, diskPath: string, locking: 'on' | 'off' = 'on'): Promise<AsyncDisposable> {
  const answer = '/run/qemu-io.out';
  await guest.output(`: > ${answer}`);
  const { ended, processId } = await guest.start(
    `exec qemu-io --image-opts driver=raw,file.driver=file,file.locking=${locking},file.filename=${diskPath} < <(echo length; exec sleep 600) > ${answer} 2>&1`,
  );
  // It answers when the disk is open.
  await guest.output(`until grep -q iB ${answer}; do [ -e /proc/${processId} ] || { cat ${answer} >&2; exit 1; }; sleep 0.1; done`);
  return {
    async [Symbol.asyncDispose]() {
      await guest.output('pkill -x qemu-io; pkill -x sleep; true');
      await ended;
    },
  };
}

/** A line of bash that tries to write 512 bytes as a VM does; writes `written` to stdout when it could. */
export function tryToWriteLine(diskPath: string): string {
  return `qemu-io -f raw -c 'write -P 0x5a 0 512' '${diskPath}' > /dev/null 2>&1 && echo written`;
}
