/** `make release-check`: the artifacts of this checkout pass, and each rule finds the fault that is planted for it. */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { openImage } from '../helpers/container-image.ts';
import { type Faults, rulesBrokenBy, rulesOf } from '../helpers/planted-fault.ts';
import { useTempDir } from '../helpers/temp-dir.ts';
import { buildRelease, type Release, readJson, run } from '../tools/release/build-release.ts';
import { CHART_RULES, checkChartFolder } from '../tools/release/check-chart.ts';
import { checkImage, IMAGE_RULES, type ImageTree } from '../tools/release/check-image.ts';
import { checkInstalled, checkPackageFiles, INSTALLED_CHECKS, installPackage } from '../tools/release/check-package.ts';
import { checkSbom, SBOM_RULES, type Sbom } from '../tools/release/check-sbom.ts';
import { type InstalledPackage, installForProduction } from '../tools/release/installed-packages.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

describe('a release', function () {
  this.timeout(300_000);
  let scratch: string;
  let release: Release;
  let production: InstalledPackage[];

  before(async function () {
    this.timeout(600_000);
    scratch = mkdtempSync(path.join(os.tmpdir(), 'disklift-release-test-'));
    release = await buildRelease(ROOT, path.join(scratch, 'release'), 'https://git.example/disklift');
    const directory = mkdtempSync(path.join(scratch, 'production-'));
    production = await installForProduction(ROOT, directory);
  });
  after(() => rmSync(scratch, { recursive: true, force: true }));

  describe('its package', () => {
    const inTempDir = useTempDir();
    let project: string;
    before(async () => {
      project = path.join(scratch, 'project');
      await installPackage(release.packageFile, project);
    });

    it('holds the files that ship and nothing else', async () => {
      assert.deepEqual(await checkPackageFiles(release.packageFile), []);
    });

    for (const [fault, command] of [
      ['a source file', 'mkdir package/src && touch package/src/bin.ts'],
      ['no license', 'rm package/LICENSE'],
      ['no status page', 'find package -name "*.html" -delete'],
    ] as const)
      it(`is refused with ${fault}`, async () => {
        await run('tar', ['-xzf', release.packageFile], inTempDir(''));
        await run('sh', ['-c', `${command} && tar -czf changed.tgz package`], inTempDir(''));
        assert.deepEqual(rulesOf(await checkPackageFiles(inTempDir('changed.tgz'))), ['package-files']);
      });

    it('names the repository that it was published from', () => {
      const { repository } = readJson<{ repository: unknown }>(path.join(project, 'node_modules', 'disklift', 'package.json'));
      assert.deepEqual(repository, { type: 'git', url: 'git+https://git.example/disklift.git' });
    });

    it('works in an empty project', async () => {
      assert.deepEqual(await checkInstalled(project, release.version), []);
    });

    const faults: Faults<keyof typeof INSTALLED_CHECKS> = {
      'package-version': ['package.json', /"version": "[^"]+"/, '"version": "9.9.9"'],
      'package-stream': ['dist/bin.js', '\n', "\nif (process.argv[2] === 'stream') process.exit(0);\n"],
      'package-import': ['dist/index.js', /export \{ openDisk \}.*/, ''],
      'package-example': ['README.md', 'await prepared.seal()', 'await prepared.close()'],
      'package-types': ['dist/index.d.ts', /export \{[^}]* openDisk \}.*/, ''],
    };
    for (const rule of Object.keys(INSTALLED_CHECKS) as (keyof typeof INSTALLED_CHECKS)[])
      it(`is refused when ${rule} is broken`, async () => {
        const installed = path.join(project, 'node_modules', 'disklift');
        const check = () => INSTALLED_CHECKS[rule](project, release.version);
        assert.deepEqual(await rulesBrokenBy(installed, faults[rule], check), [rule]);
      });
  });

  describe('its bill of materials', () => {
    const bill = () => readJson<Sbom>(release.sbomFile);
    const rulesOfBill = (sbom: Sbom) => rulesOf(checkSbom(sbom, release.version, production));

    it('names every package that is installed for production, with version and license', () => {
      assert.ok(production.length > 50, `${production.length} packages`);
      assert.deepEqual(checkSbom(bill(), release.version, production), []);
    });

    const plants: Record<(typeof SBOM_RULES)[number], (sbom: Sbom) => Sbom> = {
      'sbom-format': (sbom) => ({ ...sbom, specVersion: '1.4' }),
      'sbom-product': ({ metadata, ...sbom }) => ({ ...sbom, metadata: { component: { ...metadata.component, version: '9.9.9' } } }),
      'sbom-complete': (sbom) => ({ ...sbom, components: sbom.components.filter(({ name }) => name !== 'commander') }),
      'sbom-license': (sbom) => ({ ...sbom, components: sbom.components.map(({ licenses: _, ...rest }) => rest) }),
      'sbom-surplus': (sbom) => ({
        ...sbom,
        components: [...sbom.components, { name: 'mocha', version: '1.0.0', scope: 'required', licenses: [{ license: { id: 'MIT' } }] }],
      }),
    };
    it('has a planted fault for each rule', () => {
      assert.deepEqual(Object.keys(plants).sort(), [...SBOM_RULES].sort());
    });
    for (const [rule, plant] of Object.entries(plants))
      it(`is refused when ${rule} is broken`, () => {
        assert.deepEqual(rulesOfBill(plant(bill())), [rule]);
      });
  });

  describe('its chart', () => {
    let folder: string;
    before(async () => {
      await run('tar', ['-xzf', release.chartFile, '-C', scratch], scratch);
      folder = path.join(scratch, 'disklift');
    });

    it('is of the version of the package', async () => {
      assert.deepEqual(await checkChartFolder(folder, ROOT, release.version), []);
    });

    const faults: Faults<(typeof CHART_RULES)[number]> = {
      'chart-version': ['Chart.yaml', /^version: .*$/m, 'version: 9.9.9'],
      'chart-crd': ['crds/diskexports.yaml', /$/, '# another\n'],
      'chart-image': ['values.yaml', /^ {2}tag: ""$/m, '  tag: "9.9.9"'],
      'chart-lint': ['Chart.yaml', /^name: disklift$/m, 'name: disklift\nicon: no-url'],
    };
    it('has a planted fault for each rule', () => {
      assert.deepEqual(Object.keys(faults).sort(), [...CHART_RULES].sort());
    });
    for (const [rule, fault] of Object.entries(faults))
      it(`is refused when ${rule} is broken`, async () => {
        assert.deepEqual(await rulesBrokenBy(folder, fault, () => checkChartFolder(folder, ROOT, release.version)), [rule]);
      });
  });

  describe('its image', () => {
    let image: Awaited<ReturnType<typeof openImage>>;
    before(async function () {
      this.timeout(600_000);
      image = await openImage('disklift');
    });
    after(() => image?.[Symbol.asyncDispose]());
    const check = (tree: ImageTree = image) => checkImage(tree, readJson<Sbom>(release.sbomFile), release.version);

    it('is of the version of the package, starts, and holds the packages of the bill of materials', async () => {
      assert.deepEqual(await check(), []);
    });

    it('has a planted fault for each rule', () => {
      assert.deepEqual([...IMAGE_RULES].sort(), ['image-label', 'image-package', 'image-runs', 'image-sbom']);
    });

    it('is refused when image-label is broken', async () => {
      const Labels = { ...image.config.Labels, 'org.opencontainers.image.version': '9.9.9' };
      assert.deepEqual(rulesOf(await check({ root: image.root, config: { Labels } })), ['image-label']);
    });

    it('is refused when its package.json has another version, which the program then prints', async () => {
      const fault = ['app/package.json', /"version": "[^"]+"/, '"version": "9.9.9"'] as const;
      assert.deepEqual(await rulesBrokenBy(image.root, fault, check), ['image-package', 'image-runs']);
    });

    it('is refused when its program does not start', async () => {
      const fault = ['app/dist/bin.js', '\n', '\nprocess.exit(3);\n'] as const;
      assert.deepEqual(await rulesBrokenBy(image.root, fault, check), ['image-runs']);
    });

    it('is refused when it holds a package that the bill does not name', async () => {
      const fault = ['app/node_modules/commander/package.json', /"version": "[^"]+"/, '"version": "9.9.9"'] as const;
      assert.deepEqual(await rulesBrokenBy(image.root, fault, check), ['image-sbom']);
    });
  });

  it('has notes: the section of the changelog', () => {
    assert.match(readFileSync(release.notesFile, 'utf8'), /^- /m);
  });
});
