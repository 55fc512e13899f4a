/** Implements `disklift create`. */

import { DiskliftError } from '../../common/errors.ts';
import { retryStoreCall } from '../../common/retry.ts';
import { packageVersion } from '../../config/environment.ts';
import { readRequestFile } from '../../stores/directory/read-manifests.ts';
import { isApiFailure } from '../../stores/kubernetes/client/api-failure.ts';
import { createKubeApi } from '../../stores/kubernetes/client/kube-api.ts';
import type { CommandContext } from '../../wiring/context.ts';
import { openApiAccess } from '../../wiring/open-api-access.ts';
import { printOutput } from '../standard-output.ts';

export interface CreateFlags {
  file: string;
  namespace?: string;
  job?: string;
  jobUid?: string;
  kubeconfig?: string;
}

/** Limit of an outage of the API server. A Job makes another pod after that. */
const PATIENCE_MS = 120_000;

/**
 * With a Job the call can be repeated, because the name is the Job's: a DiskExport that is there already was made by an
 * earlier pod.
 * @throws DiskliftError `InvalidRequest`, `StoreUnavailable`, `StoreRefused`, `Cancelled`
 */
export async function createExport({ file, namespace, job, jobUid, kubeconfig }: CreateFlags, context: CommandContext): Promise<void> {
  const { clock, signal, warn } = context;
  if ((job === undefined) !== (jobUid === undefined)) throw new DiskliftError('InvalidRequest', '--job and --job-uid need each other');
  const { request } = await readRequestFile(file, { clock, signal, warn, name: job });
  const access = await openApiAccess(kubeconfig, context);
  const { namespace: _, ...rest } = request.metadata;
  const api = createKubeApi({ access, clock, userAgent: `disklift/${packageVersion()}` });
  const { labels, annotations } = rest;
  const target = { namespace: namespace ?? access.namespace ?? request.metadata.namespace, name: request.metadata.name };
  const owner = job === undefined ? undefined : { apiVersion: 'batch/v1', kind: 'Job', name: job, uid: jobUid as string };
  const metadata = {
    ...target,
    ...(labels && { labels }),
    ...(annotations && { annotations }),
    ...(owner && { ownerReferences: [owner] }),
  };
  const object = { apiVersion: request.apiVersion, kind: request.kind, metadata, spec: request.spec };
  const about = `diskexport.disklift.dev/${target.name}`;
  try {
    await retryStoreCall(() => api.exports.create(object, { signal }), {
      clock,
      random: Math.random,
      signal,
      limitMs: PATIENCE_MS,
      // Without a Job a second call could make a second export of one night.
      isRetryable: (error) => job !== undefined && error instanceof DiskliftError && error.code === 'StoreUnavailable',
      onRetry: (error) => warn((error as Error).message),
    });
    await printOutput(`${about} created\n`, context);
  } catch (error) {
    if (job === undefined || !isApiFailure(error, 'AlreadyExists')) throw error;
    await printOutput(`${about} was created by an earlier pod\n`, context);
  } finally {
    await access.close();
  }
}
