/** Removes possible secrets from text, in case a part that must not put secrets there does. */

const PATTERNS: readonly [RegExp, string][] = [
  // User and password of a URL.
  [/([a-z][a-z0-9+.-]*:\/\/)[^\s/?#]+@/gi, '$1***@'],
  // Its query: a presigned URL carries its secret there.
  [/([a-z][a-z0-9+.-]*:\/\/[^\s?#"'<>]*)\?[^\s"'<>]*/gi, '$1?***'],
  [/\b(Bearer|Basic)\s+[\w.~+/=-]+/gi, '$1 ***'],
  [/\b(authorization|cookie|set-cookie|x-amz-security-token|password|secret|token)(["']?\s*[:=]\s*["']?)[^\s"',;]+/gi, '$1$2***'],
  [/\b(AKIA|ASIA)[A-Z0-9]{16}\b/g, '***'],
];

export function redact(text: string): string {
  return PATTERNS.reduce((result, [pattern, replacement]) => result.replace(pattern, replacement), text);
}

const SECRET_NAME = /authorization|cookie|password|secret|token|credential|apikey|privatekey/i;

/** Redacts all texts beneath `value`, and leaves out values whose name is the name of a secret. */
export function redactValue(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return redact(value);
  if (typeof value !== 'object' || value === null) return value;
  // No logged value lies deeper.
  if (depth > 5) return '...';
  if (value instanceof Error) return redact(value.stack ?? value.message);
  if (Array.isArray(value)) return value.map((each) => redactValue(each, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([name, each]) => [
      name,
      SECRET_NAME.test(name) && each !== undefined ? '***' : redactValue(each, depth + 1),
    ]),
  );
}
