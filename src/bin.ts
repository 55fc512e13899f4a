#!/usr/bin/env node
/**
 * The executable. libuv reads the size of its thread pool when the pool is first used, so it is set before anything is
 * imported.
 */

const DEFAULT_THREAD_POOL_SIZE = 12;

/** libuv's limit. A value that is no number gives one thread. */
const MAX_THREAD_POOL_SIZE = 1024;

const statedSize = process.env.UV_THREADPOOL_SIZE ?? '';
const isUsable = /^\d{1,9}$/.test(statedSize) && Number(statedSize) > 0;
const threadPoolSize = isUsable ? Math.min(Number(statedSize), MAX_THREAD_POOL_SIZE) : DEFAULT_THREAD_POOL_SIZE;
process.env.UV_THREADPOOL_SIZE = String(threadPoolSize);

const { run } = await import('./cli/run.ts');
const { endProcess } = await import('./cli/end.ts');
endProcess(await run(process.argv.slice(2), threadPoolSize));

export {};
