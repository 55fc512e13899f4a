import assert from 'node:assert/strict';
import { createHealth, type HealthOptions } from '../../../src/server/health.ts';

describe('health', () => {
  let ended: AbortController;
  beforeEach(() => {
    ended = new AbortController();
  });
  afterEach(() => ended.abort());

  const create = (options: Partial<HealthOptions>) =>
    createHealth({
      silenceMs: () => 3000,
      livenessProblem: () => undefined,
      readinessProblem: () => undefined,
      volumeProblem: async () => undefined,
      signal: ended.signal,
      ...options,
    });

  it('tells how late the event loop is and how old what is known of requests', () => {
    assert.match(create({}).liveness().facts, /^event loop delay \d+\.\d ms at p99, requests known 3 s ago$/);
    assert.match(create({ silenceMs: () => undefined }).liveness().facts, /, requests not known yet$/);
  });

  it('is ill when the store will not get well by itself', () => {
    assert.equal(create({}).liveness().problem, undefined);
    assert.equal(create({ livenessProblem: () => 'silence' }).liveness().problem, 'silence');
  });

  it('is ready when requests are known and volumes can be opened', async () => {
    assert.equal(await create({}).readiness(), undefined);
    assert.equal(await create({ readinessProblem: () => 'not listed' }).readiness(), 'not listed');
    assert.equal(await create({ volumeProblem: async () => 'away' }).readiness(), 'away');
  });

  it('is ready without volumes, as in a controller', async () => {
    assert.equal(await create({ volumeProblem: undefined }).readiness(), undefined);
  });
});
