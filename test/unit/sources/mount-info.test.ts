import assert from 'node:assert/strict';
import { findMount, mountIdOf } from '../../../src/sources/file-system.ts';

const MOUNT_INFO = `\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
271 27 0:50 / /data/a\\040name rw,nosuid shared:12 master:1 - fuse.my\\040fs user@host:/dir\\040- ro,user_id=0
90 27 0:51 /a /data/b ro,noatime - nfs4 server:/a rw,vers=4.2,local_lock=none
91 27 0:51 /a /data/c ro,noatime - tmpfs
92 27 0:52 cut short
`;

describe('mountinfo', () => {
  it('has the type and the options of the file system with an ID', () => {
    assert.deepEqual(findMount(MOUNT_INFO, '27'), { type: 'ext4', options: new Set(['rw', 'discard']) });
    assert.deepEqual(findMount(MOUNT_INFO, '271'), { type: 'fuse.my fs', options: new Set(['ro', 'user_id=0']) });
    assert.deepEqual(findMount(MOUNT_INFO, '90'), { type: 'nfs4', options: new Set(['rw', 'vers=4.2', 'local_lock=none']) });
    assert.deepEqual(findMount(MOUNT_INFO, '91'), { type: 'tmpfs', options: new Set(['']) });
  });

  it('has no entry for an invisible mount, and ignores a malformed line', () => {
    for (const id of ['2', '7', '92', '1000']) assert.equal(findMount(MOUNT_INFO, id), undefined, id);
  });

  it('finds the ID of a mount in the text of fdinfo', () => {
    assert.equal(mountIdOf('pos:\t0\nflags:\t02100000\nmnt_id:\t271\nino:\t5\n'), '271');
    assert.equal(mountIdOf('pos:\t0\nflags:\t02100000\n'), undefined);
  });
});
