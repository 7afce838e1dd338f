import { describe, expect, it } from 'vitest';
import { SPEC_REVISION } from '../../crds/nvmeof-target-node.ts';
import { TEMPLATE_HASH_ANNOTATION } from '../build/daemon-set.ts';
import { sampleCondition, samplePod } from '../testing/samples.ts';
import { type DataplanePod, isPodReady, parseDaemonSet } from './cluster-objects.ts';
import type { HandledNode } from './handled-node.ts';
import { cordonedNodesToLeave } from './node-paths.ts';
import { parseTargetNode } from './nvmeof-target.ts';
import { judgeProgress } from './progress.ts';
import { formatReplacement, REPLACEMENT_ANNOTATION, type Replacement, replacementOf } from './replacement.ts';
import {
  HOSTS_RETURN_MS,
  handlingOf,
  nextRolloutStep,
  type RolloutInput,
  type RolloutStep,
  replacementFate,
} from './rollout.ts';

const daemonSet = (observedGeneration = 2) =>
  parseDaemonSet({
    metadata: { name: 'weir-target-fast', namespace: 'storage', generation: 2 },
    spec: { template: { metadata: { annotations: { [TEMPLATE_HASH_ANNOTATION]: 'new' } } } },
    status: { observedGeneration, desiredNumberScheduled: 3, currentNumberScheduled: 3 },
  });
const old = { templateHash: 'old' };
const NOW = Date.parse('2026-11-23T09:00:00Z');
const HOSTS = ['nqn.2026-11.dev.weir:host-a', 'nqn.2026-11.dev.weir:host-b'];

interface NodeOptions {
  readonly hosts?: readonly string[];
  readonly serves?: boolean;
  readonly paths?: 'Accessible' | 'Leaving' | 'Inaccessible';
  readonly specRevision?: number;
  readonly replacement?: {
    readonly podUid: string;
    readonly since?: string;
    readonly hosts?: readonly string[];
  };
  readonly askedToLeave?: string;
  readonly isCordoned?: boolean;
}

/** A node whose pod is the one of that name among `pods`. */
function node(nodeName: string, pods: readonly DataplanePod[], options: NodeOptions = {}): HandledNode {
  const { hosts = [], serves = true, paths = 'Accessible', specRevision = SPEC_REVISION } = options;
  const pod = pods.find(({ spec }) => spec.nodeName === nodeName);
  const isLeft = paths !== 'Accessible';
  const ready = { ...sampleCondition('Ready', serves && !isLeft ? 'True' : 'False') };
  const replacement: Replacement | undefined = options.replacement && {
    pod: 'before',
    since: '2026-11-23T08:59:50Z',
    ...options.replacement,
    hosts: [...(options.replacement.hosts ?? [])],
  };
  return {
    nodeName,
    pod,
    isCordoned: options.isCordoned === true,
    object: parseTargetNode({
      metadata: {
        name: `fast-${nodeName}`,
        namespace: 'storage',
        annotations:
          replacement === undefined ? {} : { [REPLACEMENT_ANNOTATION]: formatReplacement(replacement) },
      },
      spec: {
        nodeName,
        ...(options.askedToLeave === undefined
          ? {}
          : { paths: { state: 'Inaccessible', ofPod: options.askedToLeave } }),
      },
    }),
    report: {
      nodeName,
      generation: 1,
      hasPod: pod !== undefined,
      podReady: pod !== undefined && isPodReady(pod),
      silence: undefined,
      status: {
        observedGeneration: 1,
        specRevision,
        paths,
        connectedHosts: hosts.length,
        hosts: hosts.map((hostNQN, index) => ({
          subsystem: 'nqn.2026-11.dev.weir:fast',
          hostNQN,
          controllerID: index + 1,
          queues: 2,
        })),
        conditions: [isLeft ? { ...ready, reason: 'PathsInaccessible' } : ready],
      },
    },
  };
}

const input = (
  pods: DataplanePod[],
  nodes: readonly HandledNode[],
  change: Partial<RolloutInput> = {},
): RolloutInput => ({
  daemonSet: daemonSet(),
  pods,
  nodes,
  isShared: true,
  leaveTimeoutMs: 15_000,
  nowMs: NOW,
  ...change,
});

const described = (next: RolloutStep) =>
  next.kind === 'replace' || next.kind === 'leave' ? `${next.kind} ${next.pod.spec.nodeName}` : next.kind;

const step = (pods: DataplanePod[], serving = ['a', 'b', 'c'], observed = 2) =>
  described(
    nextRolloutStep(
      input(
        pods,
        ['a', 'b', 'c'].map((name) => node(name, pods, { serves: serving.includes(name) })),
        { daemonSet: daemonSet(observed) },
      ),
    ),
  );

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

describe('the hosts of a node whose pod is to be replaced', () => {
  const pods = [samplePod('a', old), samplePod('b', old), samplePod('c')];
  const both = { hosts: HOSTS };
  const three = (a: NodeOptions, b: NodeOptions = both, c: NodeOptions = {}) => [
    node('a', pods, a),
    node('b', pods, b),
    node('c', pods, c),
  ];
  const begun = { podUid: 'uid-pod-a', hosts: HOSTS };
  const asked = { ...both, replacement: begun, askedToLeave: 'weir-target-fast-a' };

  it('are moved to their other paths before', () => {
    expect(described(nextRolloutStep(input(pods, three(both))))).toBe('leave a');
    const next = nextRolloutStep(input(pods, three({ ...asked, paths: 'Leaving' })));
    expect(next).toMatchObject({ kind: 'wait', recheckMs: 5000 });
    expect(described(nextRolloutStep(input(pods, three({ ...asked, paths: 'Inaccessible' }))))).toBe(
      'replace a',
    );
  });

  it('are waited for no longer than a drain may take', () => {
    const nodes = three({ ...asked, paths: 'Leaving' });
    expect(described(nextRolloutStep(input(pods, nodes, { nowMs: NOW + 5000 })))).toBe('replace a');
  });

  it('are told by the pod itself when one of them has no other path: two waits would be longer than one', () => {
    expect(described(nextRolloutStep(input(pods, three(both, { hosts: HOSTS.slice(1) }))))).toBe('replace a');
    expect(described(nextRolloutStep(input(pods, three(both, { ...both, serves: false }))))).toBe(
      'replace a',
    );
    expect(described(nextRolloutStep(input(pods, three(both), { isShared: false })))).toBe('replace a');
  });

  it('are told by the pod itself when they lose the other path on the way', () => {
    const nodes = three({ ...asked, paths: 'Leaving' }, { hosts: [] });
    expect(described(nextRolloutStep(input(pods, nodes)))).toBe('replace a');
  });

  it('are told by the pod itself when its dataplane is of the release before and knows no such request', () => {
    expect(described(nextRolloutStep(input(pods, three({ ...both, specRevision: 1 }))))).toBe('replace a');
  });

  it('are back before the next pod is replaced', () => {
    const replaced = [samplePod('a'), samplePod('b', old), samplePod('c')];
    const returned = (hosts: readonly string[]) => [
      node('a', replaced, { hosts, replacement: { podUid: 'before', hosts: HOSTS } }),
      node('b', replaced, {}),
      node('c', replaced, {}),
    ];
    const next = nextRolloutStep(input(replaced, returned(HOSTS.slice(1))));
    expect(next).toEqual({
      kind: 'wait',
      message: `waiting for 1 of 2 hosts to come back to a: ${HOSTS[0]}`,
      recheckMs: 50_000,
    });
    expect(described(nextRolloutStep(input(replaced, returned(HOSTS))))).toBe('replace b');
  });

  it('are waited for after the last pod too, and then all is complete', () => {
    const done = [samplePod('a'), samplePod('b'), samplePod('c')];
    const nodes = (hosts: readonly string[]) => [
      node('a', done, { hosts, replacement: { podUid: 'before', hosts: HOSTS } }),
      node('b', done),
      node('c', done),
    ];
    expect(nextRolloutStep(input(done, nodes([]))).kind).toBe('wait');
    expect(nextRolloutStep(input(done, nodes(HOSTS))).kind).toBe('complete');
  });

  it('that never come back hold nothing up', () => {
    const replaced = [samplePod('a'), samplePod('b', old), samplePod('c')];
    const [a = node('a', replaced), ...others] = [
      node('a', replaced, { replacement: { podUid: 'before', hosts: HOSTS } }),
      node('b', replaced, {}),
      node('c', replaced, {}),
    ];
    const nowMs = NOW + HOSTS_RETURN_MS;
    expect(described(nextRolloutStep(input(replaced, [a, ...others], { nowMs })))).toBe('replace b');
    const replacement = replacementOf(a.object);
    expect(replacement && replacementFate(daemonSet(), a, replacement, nowMs)).toBe('hostsMissing');
  });
});

describe('what is written down of a replacement', () => {
  const pods = [samplePod('a', old), samplePod('b', old), samplePod('c')];
  const begin = (options: NodeOptions, kind: 'leave' | 'replace') => {
    const handled = node('a', pods, options);
    const [pod = samplePod('a')] = pods;
    const underway = replacementOf(handled.object);
    return handlingOf(handled, { step: { kind, pod, message: '' }, replacement: underway, nowMs: NOW });
  };
  const record = {
    pod: 'weir-target-fast-a',
    podUid: 'uid-pod-a',
    since: '2026-11-23T09:00:00.000Z',
    hosts: HOSTS,
  };

  it('names the pod, its hosts and the time, and is read again', () => {
    const handling = begin({ hosts: HOSTS }, 'leave');
    expect(handling).toEqual({ replacement: record, leavingPod: 'weir-target-fast-a' });
    expect(begin({ hosts: HOSTS }, 'replace')).toEqual({ replacement: record, leavingPod: undefined });
    const annotations = { [REPLACEMENT_ANNOTATION]: formatReplacement(record) };
    const object = parseTargetNode({ metadata: { name: 'x', annotations }, spec: { nodeName: 'a' } });
    expect(replacementOf(object)).toEqual(record);
  });

  it('stays as it began when the hosts have left and the pod goes', () => {
    const options = {
      replacement: { podUid: 'uid-pod-a', hosts: HOSTS },
      askedToLeave: 'weir-target-fast-a',
    };
    expect(begin(options, 'replace')).toMatchObject({
      replacement: { since: '2026-11-23T08:59:50Z', hosts: HOSTS },
      leavingPod: 'weir-target-fast-a',
    });
  });

  it('is over when the template is what it was again, and the paths are given back', () => {
    const same = [samplePod('a')];
    const handled = node('a', same, {
      replacement: { podUid: 'uid-pod-a', hosts: HOSTS },
      askedToLeave: 'weir-target-fast-a',
    });
    const replacement = replacementOf(handled.object);
    expect(replacement && replacementFate(daemonSet(), handled, replacement, NOW)).toBe('over');
    const after = { step: { kind: 'complete' } as const, replacement: undefined, nowMs: NOW };
    expect(handlingOf(handled, after)).toEqual({ replacement: undefined, leavingPod: undefined });
  });
});

describe('a cordoned node', () => {
  const pods = [samplePod('a'), samplePod('b'), samplePod('c')];
  const cordon = { isCordoned: true, hosts: HOSTS };
  const names = (nodes: readonly HandledNode[]) =>
    [...cordonedNodesToLeave(nodes)].map(({ nodeName }) => nodeName);

  it('gives up its paths while every host has another one', () => {
    expect(names([node('a', pods, cordon), node('b', pods, { hosts: HOSTS })])).toEqual(['a']);
    expect(names([node('a', pods, cordon), node('b', pods, { hosts: HOSTS.slice(1) })])).toEqual([]);
    expect(names([node('a', pods, cordon), node('b', pods, { hosts: HOSTS, serves: false })])).toEqual([]);
    expect(names([node('a', pods, cordon)])).toEqual([]);
  });

  it('serves on when its other path would be through a node that goes too', () => {
    expect(names([node('a', pods, cordon), node('b', pods, cordon)])).toEqual(['a']);
    const asked = { ...cordon, askedToLeave: 'weir-target-fast-b' };
    expect(names([node('a', pods, cordon), node('b', pods, asked)])).toEqual(['b']);
  });

  it('that has given up its paths does not hold up a rollout', () => {
    const outdated = [samplePod('a'), samplePod('b', old)];
    const nodes = [
      node('a', outdated, { ...cordon, paths: 'Inaccessible', askedToLeave: 'weir-target-fast-a' }),
      node('b', outdated, {}),
    ];
    const set = { ...daemonSet(), status: { ...daemonSet().status, desiredNumberScheduled: 2 } };
    expect(described(nextRolloutStep(input(outdated, nodes, { daemonSet: set })))).toBe('replace b');
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
  const progressInput = {
    reports: [report],
    pods: [samplePod('a')],
    step: { kind: 'complete' } as const,
    podSecurity: undefined,
    namespace: 'storage',
    isOnHostNetwork: true,
    deviceResource: 'rdma/shared',
  };

  it('is over when every node has taken up the last change', () => {
    expect(judgeProgress(progressInput)).toMatchObject({ status: 'False', reason: 'Complete' });
    const behind = { ...report, status: { observedGeneration: 1 } };
    expect(judgeProgress({ ...progressInput, reports: [behind] })).toMatchObject({
      status: 'True',
      reason: 'Applying',
    });
  });

  it('says which label keeps pods out', () => {
    const reports = [{ ...report, hasPod: false }];
    const verdict = judgeProgress({ ...progressInput, reports, podSecurity: 'baseline' });
    expect(verdict).toMatchObject({ status: 'False', reason: 'PodSecurityForbids' });
    expect(verdict.message).toContain("need the host's network: ");
    expect(verdict.message).toContain('pod-security.kubernetes.io/enforce=privileged');
    const offHost = judgeProgress({
      ...progressInput,
      reports,
      podSecurity: 'baseline',
      isOnHostNetwork: false,
    });
    expect(offHost.message).toContain('need the capability IPC_LOCK: ');
  });

  it('says that nothing offers the devices that a pod asks for', () => {
    const unscheduled = { type: 'PodScheduled', status: 'False', message: '1 Insufficient rdma/shared.' };
    const pod = samplePod('a');
    const pods = [{ ...pod, status: { ...pod.status, conditions: [unscheduled] } }];
    const verdict = judgeProgress({ ...progressInput, reports: [{ ...report, hasPod: false }], pods });
    expect(verdict).toMatchObject({ status: 'False', reason: 'Unschedulable' });
    expect(verdict.message).toContain('set dataplane.deviceAccess of the chart');
  });

  it('says what a pod is stuck on', () => {
    const pods = [samplePod('a', { waiting: 'ImagePullBackOff' })];
    expect(judgeProgress({ ...progressInput, pods })).toMatchObject({
      status: 'False',
      reason: 'ImagePullBackOff',
    });
  });
});
