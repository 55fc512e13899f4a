import assert from 'node:assert/strict';
import { type FileSystemTraits, traitsOf } from '../../../src/sources/file-system.ts';

/**
 * One letter for each trait: Local, Times show writes, locks are Shared, cache is Fresh. A dash where the trait is
 * absent.
 */
function letters({ isLocal, timesShowWrites, locksAreShared, cacheGoesStale }: FileSystemTraits): string {
  return [isLocal && 'L', timesShowWrites && 'T', locksAreShared && 'S', !cacheGoesStale && 'F'].map((letter) => letter || '-').join('');
}

/** Type and options as in /proc/self/mountinfo. */
const TABLE: [type: string, options: string, expected: string][] = [
  ['ext4', 'rw,errors=remount-ro', 'LTSF'],
  ['xfs', 'rw', 'LTSF'],
  ['btrfs', 'rw,subvolid=5,subvol=/', 'LTSF'],
  ['tmpfs', 'rw,size=65536k', 'LTSF'],
  ['squashfs', 'ro', 'LTSF'],
  ['overlay', 'rw,lowerdir=/l,upperdir=/u,workdir=/w', '-T-F'],
  ['nfs4', 'rw,vers=4.2,proto=tcp,local_lock=none', '-TSF'],
  ['nfs', 'rw,vers=3,proto=tcp,local_lock=none', '-T-F'],
  ['nfs', 'rw,vers=3,nolock,proto=tcp,local_lock=all', '-T-F'],
  ['nfs4', 'rw,vers=4.2,proto=tcp,local_lock=flock', '-TSF'],
  ['nfs4', 'rw,vers=4.2,proto=tcp,local_lock=posix', '-T-F'],
  ['ceph', 'rw,name=admin,secret=<hidden>', '-TSF'],
  ['lustre', 'rw,flock', '-TSF'],
  ['lustre', 'rw,localflock', '-T-F'],
  ['gfs2', 'rw,lockproto=lock_nolock', '-T-F'],
  ['ocfs2', 'rw,localflocks', '-T-F'],
  ['cifs', 'rw,vers=3.1.1,cache=strict', '----'],
  ['cifs', 'rw,vers=3.1.1,cache=strict,nobrl', '----'],
  ['smb3', 'rw,nobrl', '----'],
  ['9p', 'rw,access=client,trans=virtio', '-T-F'],
  ['9p', 'rw,cache=none,trans=tcp', '-T-F'],
  ['9p', 'rw,cache=0,trans=tcp', '-T-F'],
  ['9p', 'rw,cache=loose,trans=tcp', '----'],
  ['9p', 'rw,cache=f,trans=tcp', '----'],
  ['fuse.sshfs', 'rw,user_id=0,group_id=0', '----'],
  ['fuse.rclone', 'rw', '----'],
  ['fuse', 'rw', '----'],
  ['fuse.juicefs', 'rw', '-TSF'],
  ['fuse.glusterfs', 'rw', '--S-'],
  ['virtiofs', 'rw', '----'],
  ['a kind of next year', 'rw', '----'],
  ['constructor', 'rw', '----'],
];

describe('the traits of a file system', () => {
  for (const [type, options, expected] of TABLE)
    it(`${type} with ${options} is ${expected}`, () => {
      assert.equal(letters(traitsOf({ type, options: new Set(options.split(',')) })), expected);
    });

  it('are the most careful ones when the mount options are unknown', () => {
    const carefully = { nfs: '-T-F', nfs4: '-T-F', cifs: '----', lustre: '-T-F', '9p': '----', ext4: 'LTSF' };
    for (const [type, expected] of Object.entries(carefully)) assert.equal(letters(traitsOf({ type, options: undefined })), expected, type);
  });
});
