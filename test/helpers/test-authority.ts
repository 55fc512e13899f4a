/** A certificate authority of the tests' own, made by openssl. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runCommand } from './run-command.ts';

interface Certificate {
  /** PEM, and the files with the same content. */
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
  /** Another authority, in `directory`, whose own certificate this one has signed. */
  subordinate(directory: string): Promise<TestAuthority>;
}

/** A cluster to play with may be left running. */
const DAYS = '30';
const EC_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

async function openssl(directory: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await runCommand('openssl', args, { cwd: directory });
  assert.equal(code, 0, stderr);
}

export async function createTestAuthority(directory: string): Promise<TestAuthority> {
  await openssl(directory, 'req', '-x509', ...EC_KEY, '-days', DAYS, '-subj', '/CN=test authority', '-keyout', 'ca.key', '-out', 'ca.pem');
  return openTestAuthority(directory);
}

/** @param directory has the authority's ca.pem and ca.key */
export function openTestAuthority(directory: string): TestAuthority {
  const file = (name: string) => path.join(directory, name);
  const sign = (name: string) => ['-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', DAYS];
  return {
    ca: readFileSync(file('ca.pem'), 'utf8'),
    caFile: file('ca.pem'),
    async issue(name, subjectAltName) {
      writeFileSync(file(`${name}.ext`), `subjectAltName=${subjectAltName}\n`);
      await openssl(directory, 'req', ...EC_KEY, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`);
      await openssl(directory, 'x509', ...sign(name), '-extfile', `${name}.ext`, '-out', `${name}.pem`);
      const [certificateFile, keyFile] = [file(`${name}.pem`), file(`${name}.key`)];
      return { certificate: readFileSync(certificateFile, 'utf8'), certificateFile, key: readFileSync(keyFile, 'utf8'), keyFile };
    },
    async subordinate(other) {
      writeFileSync(file('ca.ext'), 'basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n');
      const key = path.join(other, 'ca.key');
      await openssl(directory, 'req', ...EC_KEY, '-subj', '/CN=subordinate authority', '-keyout', key, '-out', 'ca.csr');
      await openssl(directory, 'x509', ...sign('ca'), '-extfile', 'ca.ext', '-out', path.join(other, 'ca.pem'));
      return openTestAuthority(other);
    },
  };
}
