/** The bill of materials, compared with packages that were really installed. */

import type { Violation } from '../violation.ts';
import { readJson } from './build-release.ts';
import type { InstalledPackage } from './installed-packages.ts';

export const SBOM_RULES = ['sbom-format', 'sbom-product', 'sbom-complete', 'sbom-license', 'sbom-surplus'] as const;

/** The part of CycloneDX that is used here. */
interface Component {
  name: string;
  version: string;
  scope?: string;
  licenses?: { expression?: string; license?: { id?: string; name?: string } }[];
}

export interface Sbom {
  bomFormat: string;
  specVersion: string;
  metadata: { component: Component };
  components: Component[];
}

export function checkSbomFile(file: string, version: string, installed: readonly InstalledPackage[]): Violation[] {
  return checkSbom(readJson<Sbom>(file), version, installed);
}

/** @param installed what the lock file's packages look like once they are installed for production */
export function checkSbom(sbom: Sbom, version: string, installed: readonly InstalledPackage[]): Violation[] {
  const { bomFormat, specVersion, metadata, components } = sbom;
  const violations: Violation[] = [];
  const add = (rule: (typeof SBOM_RULES)[number], where: string, what: string) => violations.push({ rule, where, what });

  if (bomFormat !== 'CycloneDX' || !['1.5', '1.6'].includes(specVersion))
    add('sbom-format', bomFormat, `is ${specVersion}, not 1.5 or 1.6`);
  const product = keyOf(metadata.component);
  if (product !== `disklift@${version}`) add('sbom-product', product, `is not disklift@${version}`);

  violations.push(...missingIn(sbom, installed));
  const listed = new Map(components.map((component) => [keyOf(component), component]));
  for (const each of installed) {
    const component = listed.get(keyOf(each));
    if (component === undefined) continue;
    const license = licenseOf(component);
    if (license !== each.license)
      add('sbom-license', keyOf(each), `has the license ${license} in the bill and ${each.license} in the package`);
  }
  for (const component of components)
    if (licenseOf(component) === undefined) add('sbom-license', keyOf(component), 'has no license in the bill');

  const present = new Set(installed.map(keyOf));
  // Binaries for other platforms are optional, and not installed on this one.
  for (const component of components)
    if (component.scope !== 'optional' && !present.has(keyOf(component)))
      add('sbom-surplus', keyOf(component), 'is in the bill and not installed');
  return violations;
}

/** @returns a violation for each package that the bill does not name */
export function missingIn({ components }: Sbom, installed: readonly InstalledPackage[]): Violation[] {
  const listed = new Set(components.map(keyOf));
  const missing = installed.filter((each) => !listed.has(keyOf(each)));
  return missing.map((each) => ({ rule: 'sbom-complete', where: keyOf(each), what: 'is installed and not in the bill' }));
}

function keyOf({ name, version }: { name: string; version: string }): string {
  return `${name}@${version}`;
}

function licenseOf({ licenses = [] }: Component): string | undefined {
  const [first] = licenses;
  return first?.expression ?? first?.license?.id ?? first?.license?.name;
}
