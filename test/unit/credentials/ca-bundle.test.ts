import assert from 'node:assert/strict';
import { caBundle } from '../../../src/credentials/secret-data.ts';
import { useTempDir } from '../../helpers/temp-dir.ts';
import { createTestAuthority } from '../../helpers/test-authority.ts';

describe('a bundle of authorities', () => {
  const temp = useTempDir();
  let pem: string;
  beforeEach(async () => {
    pem = (await createTestAuthority(temp(''))).ca;
  });

  it('may have comments and text around certificates', () => {
    const texts = [
      pem,
      pem.trimEnd(),
      `Certificate:\n  Data:\n${pem}`,
      `\ufeff${pem}`,
      pem.replaceAll('\n', '\r\n'),
      pem + pem,
      pem.replaceAll('CERTIFICATE', 'TRUSTED CERTIFICATE'),
    ];
    for (const text of texts) assert.equal(caBundle(text, 'it'), text);
  });

  const refused: [sentence: string, text: () => string, message: RegExp][] = [
    ['without a certificate', () => 'hunter2', /^it holds no certificate in PEM/],
    ['in base64 twice', () => Buffer.from(pem).toString('base64'), /^it holds no certificate in PEM; it is encoded in base64 twice$/],
    ['with a certificate that is cut', () => pem + pem.replace(/(?<=\n).{20}/, ''), /^it: its certificate number 2 of 2 cannot be read$/],
    ['with two certificates on one line', () => pem.trimEnd() + pem, /^it: each "-----BEGIN CERTIFICATE-----" must begin a line$/],
  ];
  for (const [sentence, text, message] of refused)
    it(`${sentence} gives an error that names the entry and shows none of its text`, () => {
      assert.throws(
        () => caBundle(text(), 'it'),
        (error: Error & { code: string }) => {
          assert.equal(error.code, 'CredentialsInvalid');
          assert.match(error.message, message);
          return !error.message.includes('hunter2');
        },
      );
    });
});
