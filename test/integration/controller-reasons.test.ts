/** Every reason that the controller gives has a row or a sentence in docs/virtual-machines.md. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { WARNING_REASONS } from '../../src/metrics/controller-catalogue.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const CONTROLLER = path.join(ROOT, 'src', 'controller');

/** Reasons of conditions and of messages that last for a moment only, or that another page describes. */
const ELSEWHERE = ['Cancelled', 'NotExportable', 'SourceUnknown'];

/** `reason: 'Word'` in the code, and the words to which the kubelet's reasons are translated. */
function reasonsInCode(): string[] {
  const files = readdirSync(CONTROLLER, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /^[^/]*\.ts$|^virtual-machine(-backup)?\//.test(name),
  );
  const texts = files.filter((name) => name.endsWith('.ts')).map((name) => readFileSync(path.join(CONTROLLER, name), 'utf8'));
  const inCode = texts.flatMap((text) =>
    [...text.matchAll(/\breason: (?:[^,;\n]*\? )?'([A-Z]\w+)'/g)].map(([, reason]) => reason as string),
  );
  const ofPods = readFileSync(path.join(CONTROLLER, 'worker-pod.ts'), 'utf8');
  const translated = [...ofPods.matchAll(/^ {2}\w+: '([A-Z]\w+)',$/gm)].map(([, reason]) => reason as string);
  assert.ok(inCode.length > 10 && translated.length > 10, `${inCode.length} and ${translated.length}`);
  return [...new Set([...inCode, ...translated])].filter((reason) => !ELSEWHERE.includes(reason));
}

describe('the reasons of the controller', () => {
  const page = readFileSync(path.join(ROOT, 'docs', 'virtual-machines.md'), 'utf8');
  const described = new Set([...page.matchAll(/`([A-Z]\w+)`/g)].map(([, word]) => word));

  it('are all on the page', () => {
    assert.deepEqual(
      [...reasonsInCode(), ...WARNING_REASONS].filter((reason) => !described.has(reason)),
      [],
    );
  });

  it('are counted from the start as warnings, if they are on the page as problems', () => {
    const rows = [...page.matchAll(/^\| `([A-Z]\w+)` /gm)].map(([, reason]) => reason as string);
    const normal = ['Queued', 'SnapshotPending', 'ClonePending', 'BackupPending', 'Starting', 'Offline', 'Application', 'Crash'];
    const uncounted = rows.filter((reason) => !normal.includes(reason) && !(WARNING_REASONS as readonly string[]).includes(reason));
    assert.deepEqual(uncounted, []);
  });
});
