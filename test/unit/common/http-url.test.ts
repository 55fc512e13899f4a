import assert from 'node:assert/strict';
import fc from 'fast-check';
import { readHttpUrl } from '../../../src/common/http-url.ts';
import { SEED, SEED_TEXT } from '../../helpers/seed.ts';

describe('a URL of http or https', () => {
  const accepted: [text: string, href: string, sentence: string][] = [
    ['https://h', 'https://h/', 'a host alone'],
    ['HTTPS://H:8443/a%20b?c=d#e', 'https://h:8443/a%20b?c=d#e', 'a scheme and a host in capitals'],
    ['http://bob:p%40ss@h/x', 'http://bob:p%40ss@h/x', 'a user with a percent-encoded @'],
    ['http://büro:päss@h/x', 'http://b%C3%BCro:p%C3%A4ss@h/x', 'a user of other letters than ASCII has'],
    ['http://CORP\\bob:s3cret@h/x', 'http://CORP%5Cbob:s3cret@h/x', 'a user of a Windows domain, whose backslash curl sends as it is'],
    ['http://CORP%5Cbob:s3cret@h/x', 'http://CORP%5Cbob:s3cret@h/x', 'the same, percent-encoded'],
    ['http://bob:s3\\cret@h/x', 'http://bob:s3%5Ccret@h/x', 'a backslash in a password'],
    ['http://[2001:db8::1]:80/x', 'http://[2001:db8::1]/x', 'an IPv6 address'],
    ['http://h/a@b', 'http://h/a@b', 'an @ in the path'],
    ['http://h/a/../b', 'http://h/b', 'a step up in the path'],
    ['http://h/a?x=%2e%2e/b', 'http://h/a?x=%2e%2e/b', 'percent-encoded dots in the query'],
    ['http://h/a%2eb/x', 'http://h/a%2eb/x', 'a percent-encoded dot in a name'],
  ];
  for (const [text, href, sentence] of accepted)
    it(`may have ${sentence}`, () => {
      const reading = readHttpUrl(text);
      assert.ok('url' in reading, JSON.stringify(reading));
      assert.equal(reading.url.href, href);
    });

  const refused: [text: string, problem: RegExp, sentence: string][] = [
    ['ftp://h/s3cret', /not a URL/, 'another scheme'],
    ['h/s3cret', /not a URL/, 'no scheme'],
    ['', /not a URL/, 'nothing in it'],
    ['http:/h/s3cret', /not a URL/, 'one slash in front of its host'],
    ['http:h/s3cret', /not a URL/, 'no slash in front of its host'],
    ['http:///h/s3cret', /not a URL/, 'three slashes in front of its host'],
    ['http://user:s3cret@/x', /not a URL/, 'a user and no host'],
    ['http://h:99999/s3cret', /not a URL/, 'a port that there is not'],
    ['http://bob:s3/cret@h/x', /not a URL/, 'a slash in its password'],
    ['http://h\\s3cret', /backslash/, 'a backslash behind its host'],
    ['http://a\\h@other/s3cret\\', /backslash/, 'backslashes in its user and its path'],
    ['http://h:80\\@other/s3cret', /backslash/, 'a backslash before the @'],
    ['http://h/a\\s3cret', /backslash/, 'a backslash in its path'],
    ['http://h/?a=\\s3cret', /backslash/, 'a backslash in its query'],
    ['http://bob:p@s3cret@h/x', /@ in its user/, 'a second @'],
    ['http://bob:a s3cret@h/x', /space/, 'a space in its password'],
    ['http://h/s3\tcret', /control character/, 'a tab, which one parser drops'],
    ['http://h/s3cret\n', /control character/, 'a line end'],
    [' http://h/s3cret', /space/, 'a space in front'],
    ['http://h/a/%2e%2e/s3cret', /%2E/, 'a step up that is percent-encoded'],
    ['http://h/a/.%2E', /%2E/, 'a step up that is percent-encoded by half'],
  ];
  for (const [text, problem, sentence] of refused)
    it(`is refused with ${sentence}, and nothing of it is shown`, () => {
      const reading = readHttpUrl(text);
      assert.ok('problem' in reading, 'url' in reading ? reading.url.href : '');
      assert.match(reading.problem, problem);
      assert.doesNotMatch(reading.problem, /s3|cret/);
    });

  it(`has the host and the port that RFC 3986 finds in the text ${SEED_TEXT}`, () => {
    const characters = fc.constantFrom(...'ab1.:/\\@?#%[]- \t&{}'.split(''), '%2e', '%5c', '//', 'http:');
    const texts = fc.array(characters, { maxLength: 12 }).map((rest) => `http://${rest.join('')}`);
    fc.assert(
      fc.property(texts, (text) => {
        const reading = readHttpUrl(text);
        if ('problem' in reading) return;
        // RFC 3986, appendix B, and section 3.2: the host begins behind the last @.
        const [, authority = ''] = /^[^:/?#]+:\/\/([^/?#]*)/.exec(text) ?? [];
        const endpoint = authority.slice(authority.lastIndexOf('@') + 1).replace(/:(0*80)?$/, '');
        const { url } = reading;
        // Both parsers read a host of numbers as an IPv4 address, in different notations.
        if (/^[\d.]+(:|$)/.test(endpoint) || /%/.test(endpoint)) return;
        assert.equal(url.host, endpoint.replace(/:0+(?=\d)/, ':').toLowerCase());
      }),
      { seed: SEED, numRuns: 5000 },
    );
  });
});
