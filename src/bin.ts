#!/usr/bin/env node
/** The executable. libuv reads the size of its thread pool when the pool is first used, so it is set before anything is imported. */

const DEFAULT_THREAD_POOL_SIZE = 12;

process.env.UV_THREADPOOL_SIZE ??= String(DEFAULT_THREAD_POOL_SIZE);
const threadPoolSize = Number.parseInt(process.env.UV_THREADPOOL_SIZE, 10) || DEFAULT_THREAD_POOL_SIZE;

const { run } = await import('./cli/run.ts');
const { endProcess } = await import('./cli/end-process.ts');
endProcess(await run(process.argv.slice(2), threadPoolSize));

export {};
