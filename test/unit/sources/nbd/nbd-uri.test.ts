import assert from 'node:assert/strict';
import { isNbdUri, type NbdAddress, nbdDiskName, parseNbdUri } from '../../../../src/sources/nbd/nbd-uri.ts';

describe('an NBD URI', () => {
  const understood: [string, NbdAddress][] = [
    ['nbd://storage.example', { host: 'storage.example', port: 10_809, exportName: '' }],
    ['nbd://storage.example/', { host: 'storage.example', port: 10_809, exportName: '' }],
    ['nbd://10.0.0.7:1234/vm/root', { host: '10.0.0.7', port: 1234, exportName: 'vm/root' }],
    ['NBD://[2001:db8::1]:1234/a%20b%2fc', { host: '2001:db8::1', port: 1234, exportName: 'a b/c' }],
    ['nbd://h/a/../b', { host: 'h', port: 10_809, exportName: 'a/../b' }],
    ['nbd://h//a', { host: 'h', port: 10_809, exportName: '/a' }],
    ['nbd+unix:///?socket=/run/nbd.sock', { socketPath: '/run/nbd.sock', exportName: '' }],
    ['nbd+unix:///disk?socket=/run/a+b%26c.sock', { socketPath: '/run/a+b&c.sock', exportName: 'disk' }],
    ['nbd+unix:///d%C3%BCsk?socket=relative.sock', { socketPath: 'relative.sock', exportName: 'düsk' }],
  ];
  for (const [uri, address] of understood)
    it(`${uri} is understood`, () => {
      assert.ok(isNbdUri(uri));
      assert.deepEqual(parseNbdUri(uri), address);
      assert.deepEqual(parseNbdUri(nbdDiskName(address)), address, 'and so is the name that messages use');
    });

  const refused: [string, RegExp][] = [
    ['nbds://h/disk', /nbds is not supported; nbd and nbd\+unix are, without TLS/],
    ['nbd+ssh://h/disk', /nbd\+ssh is not supported/],
    ['nbd://', /no host/],
    ['nbd:///disk', /no host/],
    ['nbd://h:0/disk', /port 0/],
    ['nbd://h:65536/disk', /no URI/],
    ['nbd://user:hunter2@h/disk', /has a user/],
    ['nbd://h/disk?socket=/run/s', /takes a host and no socket/],
    ['nbd://h/disk?token=hunter2', /one socket, and nothing else/],
    ['nbd://h/disk#x', /fragment/],
    ['nbd://h/%ff', /export is not percent-encoded UTF-8/],
    ['nbd://h/a\tb', /control character/],
    ['nbd://h/a\n', /control character/],
    ['nbd://h/a ', /space at an end/],
    ['nbd://h/a%00b', /export holds a NUL/],
    [`nbd://h/${'x'.repeat(4097)}`, /longer than 4096 bytes/],
    ['nbd+unix:///disk', /needs a socket/],
    ['nbd+unix:///disk?socket=', /needs a socket/],
    ['nbd+unix:///disk?socket=/a&socket=/b', /one socket, and nothing else/],
    ['nbd+unix://h/disk?socket=/a', /takes no host/],
    ['nbd+unix:///disk?socket=%00abstract', /socket holds a NUL/],
    [`nbd+unix:///disk?socket=/${'x'.repeat(107)}`, /longer than 107 bytes/],
  ];
  for (const [uri, message] of refused)
    it(`${uri.slice(0, 60)} is refused, and the message holds no secret`, () => {
      assert.ok(isNbdUri(uri));
      assert.throws(
        () => parseNbdUri(uri),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, 'InvalidRequest');
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /hunter2/);
          return true;
        },
      );
    });

  it('is distinguished from a path', () => {
    for (const path of ['disk.img', '/nbd/disk', './nbd://x', 'nbd:disk.img', 'nbd']) assert.ok(!isNbdUri(path), path);
  });
});
