import { describe, expect, it } from 'vitest';
import { TEMPLATE_HASH_ANNOTATION } from '../build/daemon-set.ts';
import { samplePod } from '../testing/samples.ts';
import { type DataplanePod, parseDaemonSet } from './cluster-objects.ts';
import { judgeProgress } from './progress.ts';
import { nextRolloutStep } from './rollout.ts';

const daemonSet = (observedGeneration = 2) =>
  parseDaemonSet({
    metadata: { name: 'weir-target-fast', namespace: 'storage', generation: 2 },
    spec: { template: { metadata: { annotations: { [TEMPLATE_HASH_ANNOTATION]: 'new' } } } },
    status: { observedGeneration, desiredNumberScheduled: 3, currentNumberScheduled: 3 },
  });
const old = { templateHash: 'old' };
const step = (pods: DataplanePod[], serving = ['a', 'b', 'c'], observed = 2) => {
  const next = nextRolloutStep(daemonSet(observed), pods, (node) => serving.includes(node));
  return next.kind === 'replace' ? `replace ${next.pod.spec.nodeName}` : next.kind;
};

describe('a rollout', () => {
  it('is complete when every pod has the template', () => {
    expect(step([samplePod('a'), samplePod('b'), samplePod('c')])).toBe('complete');
  });

  it('replaces one pod, the first by name', () => {
    expect(step([samplePod('c', old), samplePod('b', old), samplePod('a')])).toBe('replace b');
  });

  it('waits while a pod drains', () => {
    expect(
      step([samplePod('a', { ...old, isLeaving: true }), samplePod('b', old), samplePod('c', old)]),
    ).toBe('wait');
  });

  it('waits until the new pod exists, is ready and its node serves again', () => {
    expect(step([samplePod('b', old), samplePod('c', old)])).toBe('wait');
    expect(step([samplePod('a', { isReady: false }), samplePod('b', old), samplePod('c', old)])).toBe('wait');
    expect(step([samplePod('a'), samplePod('b', old), samplePod('c', old)], ['b', 'c'])).toBe('wait');
    expect(step([samplePod('a'), samplePod('b', old), samplePod('c', old)])).toBe('replace b');
  });

  it('begins with a pod that does not serve anyway', () => {
    expect(step([samplePod('a', old), samplePod('b', old), samplePod('c', { ...old, isReady: false })])).toBe(
      'replace c',
    );
  });

  it('waits for the DaemonSet controller to have the new template', () => {
    expect(step([samplePod('a', old), samplePod('b', old), samplePod('c', old)], ['a', 'b', 'c'], 1)).toBe(
      'wait',
    );
  });
});

describe('progress', () => {
  const report = {
    nodeName: 'a',
    generation: 2,
    status: { observedGeneration: 2 },
    hasPod: true,
    silence: undefined,
    podReady: true,
  };
  const input = {
    reports: [report],
    pods: [samplePod('a')],
    step: { kind: 'complete' } as const,
    podSecurity: undefined,
    namespace: 'storage',
    deviceResource: 'rdma/shared',
  };

  it('is over when every node has taken up the last change', () => {
    expect(judgeProgress(input)).toMatchObject({ status: 'False', reason: 'Complete' });
    const behind = { ...report, status: { observedGeneration: 1 } };
    expect(judgeProgress({ ...input, reports: [behind] })).toMatchObject({
      status: 'True',
      reason: 'Applying',
    });
  });

  it('says which label keeps pods out', () => {
    const reports = [{ ...report, hasPod: false }];
    const verdict = judgeProgress({ ...input, reports, podSecurity: 'baseline' });
    expect(verdict).toMatchObject({ status: 'False', reason: 'PodSecurityForbids' });
    expect(verdict.message).toContain('pod-security.kubernetes.io/enforce=privileged');
  });

  it('says that nothing offers the devices that a pod asks for', () => {
    const unscheduled = { type: 'PodScheduled', status: 'False', message: '1 Insufficient rdma/shared.' };
    const pod = samplePod('a');
    const pods = [{ ...pod, status: { ...pod.status, conditions: [unscheduled] } }];
    const verdict = judgeProgress({ ...input, reports: [{ ...report, hasPod: false }], pods });
    expect(verdict).toMatchObject({ status: 'False', reason: 'Unschedulable' });
    expect(verdict.message).toContain('set dataplane.deviceAccess of the chart');
  });

  it('says what a pod is stuck on', () => {
    const pods = [samplePod('a', { waiting: 'ImagePullBackOff' })];
    expect(judgeProgress({ ...input, pods })).toMatchObject({ status: 'False', reason: 'ImagePullBackOff' });
  });
});
