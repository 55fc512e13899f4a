/** One version in every file that names it: `make release-check` finds each that differs. */

import assert from 'node:assert/strict';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type Faults, rulesBrokenBy, rulesOf } from '../helpers/planted-fault.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { type PackageManifest, readJson, releaseNotes } from '../tools/release/build-release.ts';
import { checkVersions, VERSION_RULES } from '../tools/release/check-versions.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const VERSION = readJson<PackageManifest>(path.join(ROOT, 'package.json')).version;

describe('the version of a release', () => {
  const inTempDir = useTempDir();
  const NAMED = ['package.json', 'package-lock.json', 'CHANGELOG.md', 'Dockerfile', 'README.md', 'charts', 'docs', 'manifests'];
  beforeEach(() => {
    for (const name of NAMED) cpSync(path.join(ROOT, name), inTempDir(name), { recursive: true });
  });

  it('is the same in every file that names it', () => {
    assert.deepEqual(checkVersions(inTempDir('')), []);
  });

  const faults: Faults<Exclude<(typeof VERSION_RULES)[number], 'version-tag'>> = {
    'version-lock': ['package-lock.json', /"version": "[^"]+"/, '"version": "9.9.9"'],
    'version-chart': ['charts/disklift/Chart.yaml', /^appVersion: .*$/m, 'appVersion: 9.9.9'],
    'version-image': ['manifests/job.yaml', /registry\.example\/disklift:\S+/, 'registry.example/disklift:9.9.9'],
    'version-dockerfile': ['Dockerfile', /^ARG VERSION=.*$/m, 'ARG VERSION=9.9.9'],
    'version-changelog': ['CHANGELOG.md', /^## \[.*$/m, '## [9.9.9] - 2026-11-30'],
  };
  it('has a planted fault for each rule', () => {
    assert.deepEqual(Object.keys(faults).sort(), VERSION_RULES.filter((rule) => rule !== 'version-tag').sort());
  });
  for (const [rule, fault] of Object.entries(faults))
    it(`is refused when ${rule} is broken`, async () => {
      assert.deepEqual(await rulesBrokenBy(inTempDir(''), fault, () => checkVersions(inTempDir(''))), [rule]);
    });

  it('is the version of the tag, and its section of the changelog has the day', () => {
    const changelog = readFileSync(inTempDir('CHANGELOG.md'), 'utf8');
    writeFileSync(inTempDir('CHANGELOG.md'), changelog.replace(/^## .*$/m, `## [${VERSION}] - 2026-11-30`));
    assert.deepEqual(checkVersions(inTempDir(''), `v${VERSION}`), []);
    assert.deepEqual(rulesOf(checkVersions(inTempDir(''), 'v9.9.9')), ['version-tag']);
    writeFileSync(inTempDir('CHANGELOG.md'), changelog.replace(/^## .*$/m, '## [Unreleased]'));
    assert.deepEqual(rulesOf(checkVersions(inTempDir(''), `v${VERSION}`)), ['version-tag']);
  });

  it('has notes: the section of the changelog', () => {
    const changelog = '# Changelog\n\n## [Unreleased]\n\n- three\n\n## [2.0.0] - 2026-02-02\n\n- two\n\n## [1.0.0] - 2026-01-01\n\n- one\n';
    assert.equal(releaseNotes(changelog, '2.0.0'), '- two\n');
    assert.equal(releaseNotes(changelog, '3.0.0'), '- three\n');
    assert.throws(() => releaseNotes('# Changelog\n', '2.0.0'), /a section for 2\.0\.0/);
  });
});
