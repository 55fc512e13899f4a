/** Questions to the API server about others: who somebody is, and what they may do. "Authenticating" and "Authorization" in its documentation. */

import { type ApiConnection, type ApiRequest, describe } from './api-connection.ts';
import { unusableError } from './api-failure.ts';
import type { ApiReviews, ReviewedUser } from './contract.ts';

interface Review {
  group: 'authentication.k8s.io' | 'authorization.k8s.io';
  kind: 'TokenReview' | 'SubjectAccessReview';
  resource: string;
  /** Whom it is about, in no words that somebody else has chosen. */
  target: string;
  spec: object;
}

export function createApiReviews(connection: ApiConnection): ApiReviews {
  /** @returns the status, in which any field may still be missing */
  async function review<T>({ group, kind, resource, target, spec }: Review, options: Parameters<ApiConnection['call']>[1]): Promise<T> {
    const apiVersion = `${group}/v1`;
    const body = { apiVersion, kind, spec };
    const request: ApiRequest = { verb: 'create', resource, target, method: 'POST', path: `/apis/${apiVersion}/${resource}`, body };
    const { status } = ((await connection.call(request, options)) ?? {}) as { status?: T };
    if (typeof status !== 'object' || status === null) throw unusableError(describe(request), 'its answer has no status');
    return status;
  }

  return {
    async authenticate(token, options) {
      const { authenticated, user } = await review<{ authenticated?: unknown; user?: Partial<ReviewedUser> }>(
        {
          group: 'authentication.k8s.io',
          kind: 'TokenReview',
          resource: 'tokenreviews',
          target: 'of a bearer token',
          spec: { token },
        },
        options,
      );
      const { username, uid, groups, extra } = user ?? {};
      return authenticated === true && username ? { username, uid, groups, extra } : undefined;
    },

    async permits({ username: user, uid, groups, extra }, action, options) {
      const { allowed } = await review<{ allowed?: unknown }>(
        {
          group: 'authorization.k8s.io',
          kind: 'SubjectAccessReview',
          resource: 'subjectaccessreviews',
          target: 'of who has that token',
          spec: { user, uid, groups, extra, ...action },
        },
        options,
      );
      return allowed === true;
    },
  };
}
