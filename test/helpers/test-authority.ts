/** A certificate authority of the tests' own, made by openssl. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runCommand } from './run-command.ts';

interface Certificate {
  /** PEM, and the files that hold it. */
  certificate: string;
  certificateFile: string;
  key: string;
  keyFile: string;
}

export interface TestAuthority {
  /** PEM. */
  ca: string;
  caFile: string;
  /** @param subjectAltName as openssl writes it: `IP:127.0.0.1`, `DNS:sink.example` */
  issue(name: string, subjectAltName: string): Promise<Certificate>;
}

const EC_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export async function createTestAuthority(directory: string): Promise<TestAuthority> {
  const file = (name: string) => path.join(directory, name);
  async function openssl(...args: string[]): Promise<void> {
    const { code, stderr } = await runCommand('openssl', args, { cwd: directory });
    assert.equal(code, 0, stderr);
  }

  await openssl('req', '-x509', ...EC_KEY, '-days', '1', '-subj', '/CN=test authority', '-keyout', 'ca.key', '-out', 'ca.pem');
  return {
    ca: readFileSync(file('ca.pem'), 'utf8'),
    caFile: file('ca.pem'),
    async issue(name, subjectAltName) {
      writeFileSync(file(`${name}.ext`), `subjectAltName=${subjectAltName}\n`);
      await openssl('req', ...EC_KEY, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`);
      const signing = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '1', '-extfile', `${name}.ext`];
      await openssl('x509', '-req', '-in', `${name}.csr`, ...signing, '-out', `${name}.pem`);
      const [certificateFile, keyFile] = [file(`${name}.pem`), file(`${name}.key`)];
      return { certificate: readFileSync(certificateFile, 'utf8'), certificateFile, key: readFileSync(keyFile, 'utf8'), keyFile };
    },
  };
}
