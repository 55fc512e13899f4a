/**
 * Reads the fields of a kubeconfig's user that client-node 2.0 ignores: `tokenFile`, impersonation of groups, uid and
 * extra fields, and a credential plugin's command that is relative to the file (k8s.io/client-go/tools/clientcmd,
 * ResolveLocalPaths).
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';

export interface KubeconfigUser {
  /** Absolute. */
  tokenFile?: string;
  /** Impersonation headers, each with its values, without `Impersonate-User`. */
  impersonation: Readonly<Record<string, readonly string[]>>;
  /** Absolute path of the credential plugin, where the kubeconfig names it relative to itself. */
  execCommand?: string;
}

interface RawUser {
  tokenFile?: unknown;
  'as-uid'?: unknown;
  'as-groups'?: unknown;
  'as-user-extra'?: unknown;
  exec?: { command?: unknown } | null;
}

/**
 * @param files existing kubeconfigs, in the order of precedence: all fields come from the first file that has the user
 */
export function readKubeconfigUser(files: readonly string[], userName: string, readText = readFileText): KubeconfigUser {
  for (const file of files) {
    const { users } = (parse(readText(file)) ?? {}) as { users?: unknown };
    const found = (Array.isArray(users) ? users : []).find((each) => each?.name === userName);
    if (found !== undefined) return userOf(found.user ?? {}, path.dirname(path.resolve(file)));
  }
  return { impersonation: {} };
}

const readFileText = (file: string) => readFileSync(file, 'utf8');

function userOf(user: RawUser, directory: string): KubeconfigUser {
  const { tokenFile } = user;
  const command = user.exec?.command;
  return {
    impersonation: impersonationOf(user),
    ...(typeof tokenFile === 'string' && tokenFile !== '' ? { tokenFile: path.resolve(directory, tokenFile) } : {}),
    // A name without a separator is searched in PATH.
    ...(typeof command === 'string' && command.includes('/') && !path.isAbsolute(command)
      ? { execCommand: path.join(directory, command) }
      : {}),
  };
}

/** The headers of https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation */
function impersonationOf(user: RawUser): KubeconfigUser['impersonation'] {
  const headers: [string, string[]][] = [
    ['Impersonate-Uid', texts([user['as-uid']])],
    ['Impersonate-Group', texts(user['as-groups'])],
    ...Object.entries(user['as-user-extra'] ?? {}).map(([key, values]): [string, string[]] => [
      `Impersonate-Extra-${encodeURIComponent(key)}`,
      texts(values),
    ]),
  ];
  return Object.fromEntries(headers.filter(([, values]) => values.length > 0));
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : [];
}
