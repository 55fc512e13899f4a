/** Rules for the workflows of .github that actionlint does not have. */

import type { Violation } from './violation.ts';

interface Step {
  uses?: string;
  run?: string;
  with?: Record<string, unknown>;
}

interface Job {
  permissions?: unknown;
  'timeout-minutes'?: unknown;
  steps?: Step[];
}

export interface Workflow {
  permissions?: unknown;
  concurrency?: unknown;
  jobs: Record<string, Job>;
}

interface WorkflowRule {
  name: string;
  reason: string;
  /** @returns each place that breaks the rule */
  violations(workflow: Workflow, text: string): string[];
}

const PINNED = /^\s*(?:- )?uses: [\w.-]+\/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/;
/** One target, with at most the part of the tests as argument. */
const MAKE = /^make [a-z-]+( ONLY=\S+( \S+ \}\})?)?$/;

function isNothing(permissions: unknown): boolean {
  return typeof permissions === 'object' && permissions !== null && Object.keys(permissions).length === 0;
}

function jobsOf({ jobs }: Workflow, isBroken: (job: Job) => boolean): string[] {
  return Object.entries(jobs).flatMap(([name, job]) => (isBroken(job) ? [name] : []));
}

function stepsOf({ jobs }: Workflow): Step[] {
  return Object.values(jobs).flatMap(({ steps = [] }) => steps);
}

export const WORKFLOW_RULES: readonly WorkflowRule[] = [
  {
    name: 'action-pinned',
    reason: 'a tag can be moved to other code: pin the action by the SHA of its commit, with the version in a comment',
    violations: (_, text) => text.split('\n').filter((line) => /^\s*(- )?uses:/.test(line) && !PINNED.test(line)),
  },
  {
    name: 'no-permissions-by-default',
    reason: 'the workflow needs `permissions: {}`, so that a new job has no right that it does not name',
    violations: ({ permissions }) => (isNothing(permissions) ? [] : ['permissions']),
  },
  {
    name: 'permissions-per-job',
    reason: 'a job names its rights one by one',
    violations: (workflow) => jobsOf(workflow, ({ permissions }) => typeof permissions !== 'object' || permissions === null),
  },
  {
    name: 'time-limit',
    reason: 'a job that hangs must end: set timeout-minutes',
    violations: (workflow) => jobsOf(workflow, (job) => typeof job['timeout-minutes'] !== 'number'),
  },
  {
    name: 'concurrency',
    reason: 'two runs for one branch or tag disturb one another: set concurrency',
    violations: ({ concurrency }) => (concurrency === undefined ? ['concurrency'] : []),
  },
  {
    name: 'make-only',
    reason: 'a step calls one target of the Makefile, so that every machine can run the same',
    violations: (workflow) => stepsOf(workflow).flatMap(({ run }) => (run === undefined || MAKE.test(run) ? [] : [run])),
  },
  {
    name: 'no-credentials-left',
    reason: 'a checkout leaves its token in the work tree unless persist-credentials is false',
    violations: (workflow) =>
      stepsOf(workflow).flatMap((step) =>
        step.uses?.startsWith('actions/checkout@') && step.with?.['persist-credentials'] !== false ? [step.uses] : [],
      ),
  },
];

export function brokenRules(where: string, workflow: Workflow, text: string): Violation[] {
  return WORKFLOW_RULES.flatMap(({ name, reason, violations }) =>
    violations(workflow, text).map((place) => ({ rule: name, where, what: `${place.trim()}: ${reason}` })),
  );
}
