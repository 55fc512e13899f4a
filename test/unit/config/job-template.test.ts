import assert from 'node:assert/strict';
import { DiskliftError } from '../../../src/common/errors.ts';
import { NO_JOB_TEMPLATE, parseJobTemplate } from '../../../src/config/job-template.ts';

describe('the file of the job template', () => {
  const parse = (text: string) => parseJobTemplate('template.yaml', () => text);

  it('gives each part as the file has it', () => {
    const text = `
labels: {kueue.x-k8s.io/queue-name: exports}
annotations: {sidecar.istio.io/inject: "false"}
nodeSelector: {disk: fast}
tolerations: [{key: dedicated, operator: Exists}]
priorityClassName: low
resources: {limits: {memory: 512Mi}}
env:
  - name: DISKLIFT_DESTINATION_SCOPE
    value: Cluster
  - name: TOKEN
    valueFrom: {secretKeyRef: {name: a, key: b}}
imagePullSecrets: [{name: registry}]
securityContext: {mode: OpenShift, seLinuxLevel: "s0:c1,c2", seLinuxChangePolicy: Recursive}
`;
    assert.deepEqual(parse(text), {
      labels: { 'kueue.x-k8s.io/queue-name': 'exports' },
      annotations: { 'sidecar.istio.io/inject': 'false' },
      nodeSelector: { disk: 'fast' },
      tolerations: [{ key: 'dedicated', operator: 'Exists' }],
      priorityClassName: 'low',
      resources: { limits: { memory: '512Mi' } },
      env: [
        { name: 'DISKLIFT_DESTINATION_SCOPE', value: 'Cluster' },
        { name: 'TOKEN', valueFrom: { secretKeyRef: { name: 'a', key: 'b' } } },
      ],
      imagePullSecrets: [{ name: 'registry' }],
      securityContext: { mode: 'OpenShift', seLinuxLevel: 's0:c1,c2', seLinuxChangePolicy: 'Recursive' },
    });
  });

  it('has a default for every part', () => {
    assert.deepEqual(parse(''), NO_JOB_TEMPLATE);
    assert.deepEqual(parse('labels: {a: b}'), { ...NO_JOB_TEMPLATE, labels: { a: 'b' } });
    assert.deepEqual(parse('securityContext: {seLinuxLevel: s0}').securityContext, {
      mode: 'KubeVirt',
      seLinuxLevel: 's0',
      seLinuxChangePolicy: '',
    });
  });

  for (const [what, text, message] of [
    ['a field that does not exist', 'affinity: {}', /^template\.yaml: affinity is unknown; the fields are labels, annotations, /],
    ['a label that is a number', 'labels: {a: 1}', /^template\.yaml: labels\.a: a text is expected; put numbers and true into quotes$/],
    ['tolerations that are no list', 'tolerations: {key: a}', /^template\.yaml: tolerations: a list is expected$/],
    ['a variable without a name', 'env: [{value: a}]', /^template\.yaml: env\[0\]\.name: a text is expected/],
    ['a secret that is only a name', 'imagePullSecrets: [registry]', /^template\.yaml: imagePullSecrets\[0\]: an object is expected$/],
    ['an unknown mode', 'securityContext: {mode: Root}', /^template\.yaml: securityContext\.mode: one of KubeVirt, OpenShift is expected$/],
    ['an unknown part of a part', 'securityContext: {runAsUser: 0}', /^template\.yaml: securityContext: runAsUser is unknown/],
    ['a list', '- a', /^template\.yaml: an object is expected$/],
    ['a text that is not YAML', '{', /^template\.yaml: /],
  ] as const)
    it(`refuses ${what}, in one line`, () => {
      assert.throws(
        () => parse(text),
        (error) =>
          error instanceof DiskliftError && error.code === 'InvalidRequest' && message.test(error.message) && !error.message.includes('\n'),
      );
    });
});
