import { describe, expect, it } from 'vitest';
import type { NvmeofTargetNodeStatus } from '../../crds/nvmeof-target-node.ts';
import { silentStatus } from '../../crds/silent-status.ts';
import { sampleCondition, sampleNode, samplePod } from '../testing/samples.ts';
import type { DataplanePod } from './cluster-objects.ts';
import { judgeSilence, needsSilencing } from './silence.ts';

const now = new Date('2026-11-23T12:09:11Z');
const started = '2026-11-23T12:00:00Z';
const node = sampleNode('node-a');
const reported: NvmeofTargetNodeStatus = {
  observedGeneration: 3,
  startTime: '2026-11-23T12:00:01Z',
  connectedHosts: 1,
  hosts: [{ subsystem: 'nqn', hostNQN: 'nqn.2026-11.a:b', controllerID: 1, queues: 2 }],
  listeners: [{ name: 'storage', address: '10.9.0.1', phase: 'Serving', epoch: 4, memoryRegions: 4 }],
  conditions: [sampleCondition('LinksUp', 'True'), sampleCondition('Ready', 'True')],
};

type ContainerState = DataplanePod['status']['containerStatuses'][number]['state'];

function pod(isReady: boolean, state: ContainerState, exitCode?: number): DataplanePod {
  const sample = samplePod('node-a', { isReady });
  const lastState = exitCode === undefined ? {} : { terminated: { exitCode } };
  return {
    ...sample,
    status: { ...sample.status, containerStatuses: [{ restartCount: 1, state, lastState }] },
  };
}

const running = { running: { startedAt: started } };
const restarted = { running: { startedAt: '2026-11-23T12:08:10Z' } };

describe('what a node reported last', () => {
  it('stands while the process that reported it runs, ready or not: a link that is down is its own word', () => {
    expect(judgeSilence([pod(true, running)], node, reported)).toBeUndefined();
    expect(judgeSilence([pod(false, running)], node, reported)).toBeUndefined();
  });

  it.each<[string, DataplanePod[], string, string]>([
    ['there is no pod', [], 'NoPod', 'no pod'],
    [
      'the process has ended',
      [pod(false, { terminated: { exitCode: 75 } })],
      'DataplaneNotRunning',
      'it ended with exit code 75',
    ],
    [
      'the kubelet waits before it starts it again',
      [pod(false, { waiting: { reason: 'CrashLoopBackOff', message: '' } }, 70)],
      'DataplaneNotRunning',
      'it ended with exit code 70, CrashLoopBackOff',
    ],
    [
      'a new process has not reported yet',
      [pod(false, restarted, 75)],
      'DataplaneStarting',
      'the one before ended with exit code 75',
    ],
    ['the container is not there yet', [samplePod('node-a', { isReady: false })], 'DataplaneNotRunning', ''],
  ])('says nothing about now when %s', (_, pods, reason, message) => {
    const silence = judgeSilence(pods, node, reported);
    expect(silence?.reason).toBe(reason);
    expect(silence?.message).toContain(message);
    expect(silence?.mayServe).toBeUndefined();
  });

  it('says nothing about now when the node is out of reach, where hosts may still be served', () => {
    const away = sampleNode('node-a', {}, [{ key: 'node.kubernetes.io/unreachable', effect: 'NoExecute' }]);
    expect(judgeSilence([pod(true, running)], away, reported)).toMatchObject({
      reason: 'NodeUnreachable',
      mayServe: true,
    });
  });

  it('is nothing before the first report', () => {
    expect(judgeSilence([pod(true, running)], node, undefined)?.reason).toBe('DataplaneStarting');
  });

  it('is taken on trust from a dataplane that does not tell when it started', () => {
    const { startTime: _, ...older } = reported;
    expect(judgeSilence([pod(false, restarted)], node, older)).toBeUndefined();
  });
});

describe("the operator's word in the place of a dataplane", () => {
  const why = { reason: 'DataplaneNotRunning', message: 'it ended with exit code 70' };
  const silent = silentStatus(reported, why, 5, now);

  it('takes back whatever a dead process claimed', () => {
    expect(new Set(silent.conditions?.map(({ status }) => status))).toEqual(new Set(['Unknown']));
    expect(silent.conditions?.[0]).toMatchObject({ type: 'Accepted', observedGeneration: 5, ...why });
    expect(silent).toMatchObject({
      observedGeneration: 3,
      connectedHosts: 0,
      hosts: [],
      listeners: [{ name: 'storage', address: '10.9.0.1', phase: 'Unknown' }],
    });
    expect(silent.startTime).toBeUndefined();
  });

  it('leaves the hosts of a node that is out of reach', () => {
    const unreachable = silentStatus(reported, { ...why, mayServe: true }, 5, now);
    expect(unreachable).toMatchObject({ connectedHosts: 1, hosts: [{ controllerID: 1 }] });
  });

  it('forgets no past outage', () => {
    const outages = [
      { startTime: '2026-11-23T02:00:00Z', endTime: '2026-11-23T02:00:04Z', reason: 'LinkDown' },
    ];
    const listeners = (reported.listeners ?? []).map((listener) => ({ ...listener, outages }));
    expect(silentStatus({ ...reported, listeners }, why, 5, now).listeners?.[0]?.outages).toEqual(outages);
  });

  it('is said once, and again only with other words', () => {
    expect(needsSilencing(reported, why)).toBe(true);
    expect(needsSilencing(undefined, why)).toBe(true);
    expect(needsSilencing(silent, why)).toBe(false);
    expect(needsSilencing(silent, { reason: 'NoPod', message: 'no pod runs on the node' })).toBe(true);
  });

  it('does not replace the last word of a dataplane, which knew better', () => {
    const farewell = silentStatus(reported, { reason: 'DeviceRemoved', message: 'exit code 75' }, 5, now);
    expect(needsSilencing(farewell, why)).toBe(false);
  });

  it('does not move the time of a condition that was Unknown before', () => {
    const later = silentStatus(silent, why, 6, new Date('2026-11-23T13:00:00Z'));
    expect(later.conditions?.[0]?.lastTransitionTime).toBe('2026-11-23T12:09:11Z');
  });
});
