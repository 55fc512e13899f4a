/**
 * The doors between the rooms of src/, for `make check-doors`. Rooms that are still to come have theirs already. What one
 * cannot tell from imports is in test/tools/source-rules.ts; test/integration/doors.test.ts breaks every rule once.
 */

const BIN = '^src/bin\\.ts$';
const INDEX = '^src/index\\.ts$';

/** What each room may use beside itself; `from` stands for the room's files where they are not `src/ROOM/`. */
const DOORS = {
  bin: {
    from: BIN,
    mayUse: ['^src/cli/'],
    reason: 'The executable sets the process up before anything is imported; all else begins in cli/run.',
  },
  common: { mayUse: [], reason: 'Everybody uses common, so whatever common used would be used by everybody.' },
  native: {
    mayUse: ['^src/common/'],
    reason: 'Calls of the C library mean nothing by themselves: what they are for is told by their callers.',
  },
  config: {
    mayUse: ['^src/common/'],
    reason: 'Settings are handed to the parts by cli/compose; a schema that knew the parts would tie them together.',
  },
  qcow2: {
    mayUse: ['^src/common/(bounded-view|bytes|errors)\\.ts$'],
    reason: 'The format is pure, so that it can be read beside its specification and tested without a disk.',
  },
  sources: {
    mayUse: [
      '^src/common/',
      '^src/native/',
      '^src/qcow2/(parse-header|foreign-image|l1-table|metadata-places|overlay-mapping|guest-mapping|end-check)\\.ts$',
    ],
    reason: 'A source gives the bytes of a disk; of qcow2 it needs what reads an image, and nothing of what writes one.',
  },
  image: {
    mayUse: ['^src/common/', '^src/qcow2/', '^src/sources/contract\\.ts$'],
    reason: 'The virtual image is the same for every kind of source, so it knows their contract only.',
  },
  targets: {
    from: '^src/targets/(?!stdout/|s3/)',
    mayUse: ['^src/targets/', '^src/common/', '^src/image/contract\\.ts$'],
    reason: 'A target sends a virtual image and must not know how it comes about.',
  },
  'targets/stdout': {
    mayUse: ['^src/targets/', '^src/common/', '^src/native/', '^src/image/contract\\.ts$'],
    reason: 'As every target; and splice(2), which moves bytes from descriptor to descriptor, is in native.',
  },
  'targets/s3': {
    mayUse: ['^src/targets/', '^src/common/', '^src/native/md5\\.ts$', '^src/image/contract\\.ts$'],
    reason: 'As every target; and MD5, which its servers tag parts with, is computed beside the event loop by native.',
  },
  engine: {
    mayUse: ['^src/common/', '^src/image/', '^src/requests/', '^src/(sources|targets)/contract\\.ts$'],
    reason: 'An export runs the same whatever the source, the target and the store of requests: the engine knows contracts only.',
  },
  requests: { mayUse: ['^src/common/'], reason: 'The resource is what users write; it must not change when the program does.' },
  kubernetes: {
    mayUse: ['^src/common/', '^src/requests/', '^src/engine/observer[./]'],
    reason: 'The API server is one store of requests among others; it hears of exports through the observer contract.',
  },
  metrics: {
    mayUse: ['^src/common/', '^src/engine/observer[./]'],
    reason: 'Metrics watch the engine; nothing they do may change an export.',
  },
  http: {
    mayUse: ['^src/common/', '^src/requests/', '^src/engine/observer[./]', '^src/metrics/'],
    reason: 'The pages show what is going on; they steer nothing.',
  },
};

function doorRule([room, { from = `^src/${room}/`, mayUse, reason }]) {
  return {
    name: `door-${room.replace('/', '-')}`,
    severity: 'error',
    comment: reason,
    from: { path: from },
    to: { path: '^src/', pathNot: [from, ...mayUse] },
  };
}

/** The one room that may import each SDK: to replace one, or to fake it in tests, is then a matter of one room. */
const SDK_HOMES = {
  '@kubernetes/client-node': 'kubernetes',
  '@aws-sdk/[^/]+': 'targets/s3',
  '@smithy/[^/]+': 'targets/s3',
  'prom-client': 'metrics',
  express: 'http',
  koffi: 'native',
  convict: 'config',
  commander: 'cli',
  'cli-progress': 'cli',
};

function homeRule([sdk, room]) {
  return {
    name: `home-of-${sdk.replace('/[^/]+', '').replace('@', '').replace('/', '-')}`,
    severity: 'error',
    comment: `One home for each SDK: src/${room}/ imports it and gives the others what they need of it in our own terms.`,
    from: { path: '^src/', pathNot: `^src/${room}/` },
    // With its types, and by its bare name where it is not installed.
    to: { path: [`^${sdk}(/|$)`, `(^|/)node_modules/(@types/)?${sdk}(/|$)`] },
  };
}

export default {
  forbidden: [
    ...Object.entries(DOORS).map(doorRule),
    {
      name: 'door-cli',
      severity: 'error',
      comment: 'The command line wires the parts to one another; a part that used it could not be used without it.',
      from: { path: '^src/', pathNot: [BIN, '^src/cli/'] },
      to: { path: '^src/cli/' },
    },
    {
      name: 'door-entry-points',
      severity: 'error',
      comment: 'bin.ts and index.ts are entrances: inside of src, import the file that has the thing.',
      from: { path: '^src/' },
      to: { path: [BIN, INDEX] },
    },
    {
      name: 'door-http-types-only',
      severity: 'error',
      comment: 'The pages show requests and never make, judge or change one.',
      from: { path: '^src/http/' },
      to: { path: '^src/requests/', dependencyTypesNot: ['type-only', 'type-import'] },
    },
    {
      name: 'pure-qcow2',
      severity: 'error',
      comment: 'No I/O in the format, neither by Node nor by a package: bytes in, bytes out.',
      from: { path: '^src/qcow2/' },
      to: { pathNot: '^src/' },
    },
    ...Object.entries(SDK_HOMES).map(homeRule),
    {
      name: 'no-cycles',
      severity: 'error',
      comment: 'Two files that need each other are one file, or need a third. Imports of types count: a reader follows them too.',
      from: { path: '^src/' },
      to: { circular: true },
    },
    {
      name: 'no-orphans',
      severity: 'error',
      comment: 'A file that neither uses nor is used is a leftover.',
      from: { path: '^src/', orphan: true, pathNot: [BIN, INDEX] },
      to: {},
    },
    {
      name: 'no-tests-in-src',
      severity: 'error',
      comment: 'What is shipped must work without what is not.',
      from: { path: '^src/' },
      to: { path: '^(test|bench)/' },
    },
    {
      name: 'no-process-import',
      severity: 'error',
      comment: 'Use the global in full, process.member: the rules about argv, env, stdout and exit look for that.',
      from: { path: '^src/' },
      to: { path: '^(node:)?process$' },
    },
    {
      name: 'no-undeclared-packages',
      severity: 'error',
      comment: 'Installed for users are only the packages that package.json names as dependencies.',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only', 'type-import'] },
    },
    {
      name: 'no-unresolved-imports',
      severity: 'error',
      comment: 'An import that cannot be found passes every other rule.',
      from: { path: '^src/' },
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    detectProcessBuiltinModuleCalls: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'require', 'node', 'default', 'types'] },
  },
};
