/**
 * The layers of src/ and what each may import. `make check` runs these rules; test/integration/layers.test.ts breaks every one.
 * Rules that imports cannot show are in test/tools/source-rules.ts.
 */

const BIN = '^src/bin\\.ts$';
const INDEX = '^src/index\\.ts$';

/** Each layer, with what it may import beside itself: layers, or files without their extension. Lower layers come first. */
export const LAYERS = {
  common: { mayUse: [], reason: 'Every layer imports common, so common imports none of them.' },
  native: { mayUse: ['common'], reason: 'A call of the C library has no meaning by itself; its callers give it one.' },
  config: { mayUse: ['common'], reason: 'wiring hands settings to the parts; a schema that knew the parts would tie them together.' },
  qcow2: {
    mayUse: ['common/(bounded-view|bytes|columns|errors)'],
    reason: 'The format is pure: a reader compares it with its specification, and a test needs no disk.',
  },
  sources: { mayUse: ['common', 'native'], reason: 'A source gives the bytes of a disk and knows no format of images.' },
  formats: {
    mayUse: ['common', 'native', 'sources', 'qcow2/(constants|entries|geometry|limits|read)'],
    reason: 'A format reads images through sources; it needs the part of qcow2 that reads, not the part that writes.',
  },
  image: {
    mayUse: ['common', 'qcow2', 'sources/contract', 'sources/changed/(contract|clusters)'],
    reason: 'The virtual image is the same for every kind of source, so it knows only their contract, and that of maps of changes.',
  },
  network: { mayUse: ['common'], reason: 'The policy judges every connection in the same way, whatever is sent through it.' },
  s3: {
    mayUse: ['common', 'network'],
    reason: 'The way to an S3 server is the same for a target that sends and a source that reads; it knows neither.',
  },
  targets: {
    mayUse: ['common', 'network', 's3', 'image/contract'],
    reason: 'A target sends a virtual image and does not know how it is made.',
  },
  resource: { mayUse: ['common'], reason: 'Users write the resource; it does not change when the program does.' },
  receipts: {
    mayUse: ['common', 'qcow2/constants', 'resource', 'sources/changed/contract', 'targets/contract'],
    reason: 'Receipts and trackers are files at a destination: which kind of destination, and what is sent there, is no concern of theirs.',
  },
  credentials: { mayUse: ['common', 'resource'], reason: 'A reference to a Secret has the same meaning in every store.' },
  engine: {
    mayUse: ['common', 'image', 'receipts/(contract|receipt)', 'resource', '(sources|stores|targets)/contract', 'sources/changed/contract'],
    reason: 'An export runs the same whatever the source, the target and the store: the engine knows only contracts.',
  },
  stores: {
    mayUse: ['common', 'resource', 'credentials', 'engine/observer'],
    reason: 'A store keeps requests and their status; the engine reports to it through the observer contract.',
  },
  controller: {
    mayUse: ['common', 'engine/export-status', 'resource', 'stores'],
    reason: 'The controller makes Jobs and never touches data: it knows the resource and the API server, and no disk.',
  },
  metrics: {
    mayUse: ['common', 'controller/schedules/observer', 'engine/observer', 'resource/destination-kinds'],
    reason: 'Metrics observe the engine and never change an export.',
  },
  server: {
    mayUse: ['common', 'resource', 'metrics', 'engine/observer'],
    reason: 'The pages show exports as the engine reports them and never change one.',
  },
  wiring: { mayUse: ['.*'], but: ['cli'], reason: 'wiring connects the parts and does not depend on the command line.' },
  cli: { mayUse: ['.*'], reason: 'The command line may use every part.' },
};

/** Folders that may import more than the rest of their layer. */
const EXTRAS = {
  'sources/remote': {
    mayUse: ['network', 's3'],
    reason: 'Images on a server are read over connections that the policy judges as it judges those of targets.',
  },
  'targets/stdout': { mayUse: ['native'], reason: 'splice(2), which moves bytes from descriptor to descriptor, is in native.' },
  'targets/s3': { mayUse: ['native/md5'], reason: 'S3 servers tag parts with MD5, which native computes beside the event loop.' },
};

const pathOf = (name) => `^src/${name}(/|\\.ts$)`;

function layerRule([layer, { mayUse, but = [], reason }]) {
  const extras = Object.keys(EXTRAS).filter((folder) => folder.startsWith(`${layer}/`));
  return {
    name: `layer-${layer}`,
    severity: 'error',
    comment: reason,
    from: { path: `^src/${layer}/`, ...(extras.length > 0 && { pathNot: `^src/(${extras.join('|')})/` }) },
    to: mayUse.includes('.*') ? { path: [BIN, ...but.map(pathOf)] } : { path: '^src/', pathNot: [`^src/${layer}/`, ...mayUse.map(pathOf)] },
  };
}

function extraRule([folder, { mayUse, reason }]) {
  const [layer] = folder.split('/');
  return {
    name: `layer-${folder.replace('/', '-')}`,
    severity: 'error',
    comment: reason,
    from: { path: `^src/${folder}/` },
    to: { path: '^src/', pathNot: [layer, ...mayUse, ...LAYERS[layer].mayUse].map(pathOf) },
  };
}

/** The one folder or file that may import each SDK, so that replacing or faking an SDK concerns no other. */
const SDK_HOMES = {
  '@kubernetes/client-node': 'stores/kubernetes/client/kubeconfig-access',
  undici: 'stores/kubernetes/client',
  '@aws-sdk/[^/]+': '(targets/)?s3',
  '@smithy/[^/]+': '(targets/)?s3',
  '@grpc/[^/]+': 'sources/changed/snapshot-metadata/metadata-client',
  'prom-client': 'metrics',
  express: 'server',
  koffi: 'native',
  convict: 'config',
  commander: 'cli',
  croner: 'controller/schedules',
  'cli-progress': 'cli',
};

function homeRule([sdk, home]) {
  return {
    name: `home-of-${sdk.replace('/[^/]+', '').replace('@', '').replace('/', '-')}`,
    severity: 'error',
    comment: `Only src/${home} imports this SDK and gives the others what they need of it in the project's own terms.`,
    from: { path: '^src/', pathNot: pathOf(home) },
    // With its types, and by its bare name where it is not installed.
    to: { path: [`^${sdk}(/|$)`, `(^|/)node_modules/(@types/)?${sdk}(/|$)`] },
  };
}

function rule(name, comment, from, to) {
  return { name, severity: 'error', comment, from, to };
}

const SRC = { path: '^src/' };
const TYPES_ONLY = ['type-only', 'type-import'];

export default {
  forbidden: [
    ...Object.entries(LAYERS).map(layerRule),
    ...Object.entries(EXTRAS).map(extraRule),
    rule(
      'layer-bin',
      'bin.ts prepares the process before it imports anything; all else begins in cli/run.',
      { path: BIN },
      {
        path: '^src/',
        pathNot: pathOf('cli'),
      },
    ),
    rule('layer-entry-points', 'Inside of src, import the file that exports the thing, not an entry point.', SRC, { path: [BIN, INDEX] }),
    rule(
      'server-uses-types-only',
      'The pages show requests and never make, judge or change one. How a source or a destination is shown is in the one table of each.',
      { path: '^src/server/' },
      {
        path: '^src/resource/',
        pathNot: [pathOf('resource/destination-kinds'), pathOf('resource/source-kinds')],
        dependencyTypesNot: TYPES_ONLY,
      },
    ),
    rule(
      'pure-qcow2',
      'No I/O in the format, neither by Node nor by a package: bytes in, bytes out.',
      { path: '^src/qcow2/' },
      {
        pathNot: '^src/',
      },
    ),
    ...Object.entries(SDK_HOMES).map(homeRule),
    rule(
      'client-node-loads-late',
      'A sidecar in a pod does not need client-node, which takes more memory than the rest of the sidecar.',
      SRC,
      { path: pathOf('stores/kubernetes/client/kubeconfig-access'), dynamic: false },
    ),
    rule('no-cycles', 'Two files that need each other are one file, or need a third. Imports of types count too.', SRC, { circular: true }),
    rule('no-orphans', 'A file that neither uses nor is used is dead.', { path: '^src/', orphan: true, pathNot: [BIN, INDEX] }, {}),
    rule('no-tests-in-src', 'What ships works without what does not.', SRC, { path: '^(test|bench)/' }),
    rule('no-process-import', 'Write process.member in full: the rules about argv, env, stdout and exit look for that.', SRC, {
      path: '^(node:)?process$',
    }),
    rule('no-undeclared-packages', 'Users install only the packages that package.json names as dependencies.', SRC, {
      dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'],
      dependencyTypesNot: TYPES_ONLY,
    }),
    rule('no-unresolved-imports', 'An import that cannot be found passes every other rule.', SRC, { couldNotResolve: true }),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    detectProcessBuiltinModuleCalls: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'require', 'node', 'default', 'types'] },
  },
};
