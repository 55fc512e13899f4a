/** The certificate of all peers that speak TLS: made once, because it takes longer than most tests. */

import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createTestAuthority } from '../test-authority.ts';

export interface PeerCertificate {
  /** All in PEM. */
  ca: string;
  /** For 127.0.0.1. */
  certificate: string;
  key: string;
}

let made: Promise<PeerCertificate> | undefined;

export function peerCertificate(): Promise<PeerCertificate> {
  made ??= make();
  return made;
}

async function make(): Promise<PeerCertificate> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'disklift-test-'));
  try {
    const authority = await createTestAuthority(directory);
    return { ca: authority.ca, ...(await authority.issue('peer', 'IP:127.0.0.1')) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
