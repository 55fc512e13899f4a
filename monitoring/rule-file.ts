/** The rules as the file that Prometheus reads, which is also the spec of a PrometheusRule. */

import { stringify } from 'yaml';
import { alertRules, type RuleOptions, recordingRules, ruleInterval } from './alerts.ts';

export function ruleFile(options: RuleOptions = {}): string {
  const interval = ruleInterval(options);
  const groups = [
    { name: 'disklift-records', interval, rules: recordingRules(options) },
    { name: 'disklift-alerts', interval, rules: alertRules(options) },
  ];
  return stringify({ groups }, { lineWidth: 0 });
}
