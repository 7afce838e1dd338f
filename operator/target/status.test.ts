import { describe, expect, it } from 'vitest';
import { sampleCondition } from '../testing/samples.ts';
import { CONDITION_TYPES, findCondition, updateConditions } from './conditions.ts';
import type { NodeReport } from './roll-up.ts';
import { buildStatus } from './status.ts';
import { statusEvents } from './status-writer.ts';

const now = new Date('2026-11-23T09:00:00Z');
/** A node without a pod. */
const noPod = {
  hasPod: false,
  podReady: false,
  silence: { reason: 'NoPod', message: 'no pod runs on the node' },
};
const healthy = ['ListenersReady', 'LinksUp', 'DeviceHealthy', 'Ready'].map((type) =>
  sampleCondition(type, 'True'),
);
const serving = [...healthy, sampleCondition('Degraded', 'False')];
const report = (nodeName: string, change: Partial<NodeReport> = {}): NodeReport => ({
  nodeName,
  generation: 1,
  status: { observedGeneration: 1, connectedHosts: 2, conditions: serving },
  hasPod: true,
  podReady: true,
  silence: undefined,
  ...change,
});
const accepted = { Accepted: { status: 'True', reason: 'Accepted', message: 'valid' } } as const;
const status = (reports: NodeReport[], previous?: ReturnType<typeof buildStatus>) =>
  buildStatus({ previous, generation: 3, nqn: 'nqn', reports, verdicts: accepted, now });
const statuses = (reports: NodeReport[]) =>
  Object.fromEntries((status(reports).conditions ?? []).map(({ type, status: value }) => [type, value]));

describe('the status of a target', () => {
  it('has every condition from the start, Unknown until something is known', () => {
    const conditions = updateConditions([], {}, 1, now);
    expect(conditions.map(({ type }) => type)).toEqual([...CONDITION_TYPES]);
    expect(new Set(conditions.map((condition) => condition.status))).toEqual(new Set(['Unknown']));
  });

  it('is ready when every node serves, and adds up their hosts', () => {
    const result = status([report('a'), report('b')]);
    expect(result).toMatchObject({ desiredNodes: 2, readyNodes: 2, nodes: '2/2', connectedHosts: 4 });
    expect(findCondition(result.conditions, 'Ready')).toMatchObject({ status: 'True', reason: 'Serving' });
    expect(findCondition(result.conditions, 'Ready')?.observedGeneration).toBe(3);
  });

  it('is not ready without nodes', () => {
    expect(findCondition(status([]).conditions, 'Ready')).toMatchObject({
      status: 'False',
      reason: 'NoNodes',
    });
  });

  it('takes the last word of a dataplane that is gone for nothing', () => {
    const gone = report('b', noPod);
    expect(status([report('a'), gone])).toMatchObject({ readyNodes: 1, connectedHosts: 2 });
    expect(statuses([report('a'), gone])).toMatchObject({ Ready: 'False', LinksUp: 'Unknown' });
  });

  it('names the node whose link is down, and with what reason', () => {
    const conditions = serving.map((condition) =>
      ['LinksUp', 'Ready'].includes(condition.type)
        ? { ...condition, status: 'False' as const, reason: 'LinkDown', message: 'link rdma0 is down' }
        : condition,
    );
    const down = report('b', { status: { observedGeneration: 1, conditions }, podReady: false });
    const result = status([report('a'), down]);
    expect(findCondition(result.conditions, 'LinksUp')).toMatchObject({
      status: 'False',
      reason: 'LinkDown',
      message: 'b: link rdma0 is down',
    });
    expect(findCondition(result.conditions, 'Ready')?.reason).toBe('LinkDown');
    expect(result.nodes).toBe('1/2');
  });

  it('names up to three nodes of which nothing is known, and counts the rest', () => {
    const silent = ['b', 'c', 'd', 'e'].map((name) => report(name, noPod));
    expect(findCondition(status([report('a'), ...silent]).conditions, 'DeviceHealthy')).toMatchObject({
      status: 'Unknown',
      reason: 'NoPod',
      message: 'nothing is known of b, c, d and 1 more: no pod runs on the node',
    });
  });

  it.each(['LinksUp', 'DeviceHealthy', 'ListenersReady'])(
    'says that %s is False when it is on one node, whatever the others say',
    (type) => {
      const conditions = serving.map((condition) =>
        condition.type === type ? sampleCondition(type, 'False', 'Cause') : condition,
      );
      const bad = report('b', { status: { observedGeneration: 1, conditions } });
      const silent = report('c', noPod);
      expect(findCondition(status([report('a'), bad, silent]).conditions, type)).toMatchObject({
        status: 'False',
        reason: 'Cause',
        message: `b: ${type} is False`,
      });
    },
  );

  it('is degraded when one node is', () => {
    const conditions = serving.map((condition) =>
      condition.type === 'Degraded' ? { ...condition, status: 'True' as const } : condition,
    );
    const degraded = report('b', { status: { observedGeneration: 1, conditions } });
    expect(statuses([report('a'), degraded])['Degraded']).toBe('True');
    expect(statuses([report('a')])['Degraded']).toBe('False');
  });

  it('moves a transition time only when the status of the condition changes', () => {
    const before = status([report('a')]);
    const later = new Date('2026-11-23T10:00:00Z');
    const input = { generation: 4, nqn: 'nqn', verdicts: accepted, now: later };
    const same = buildStatus({ ...input, previous: before, reports: [report('a')] });
    expect(findCondition(same.conditions, 'Ready')?.lastTransitionTime).toBe('2026-11-23T09:00:00Z');
    const changed = buildStatus({ ...input, previous: before, reports: [report('a', { podReady: false })] });
    expect(findCondition(changed.conditions, 'Ready')?.lastTransitionTime).toBe('2026-11-23T10:00:00Z');
    expect(findCondition(changed.conditions, 'Accepted')?.lastTransitionTime).toBe('2026-11-23T09:00:00Z');
  });
});

describe('Events', () => {
  it('tell of becoming accepted and ready, once', () => {
    const first = status([report('a')]);
    expect(statusEvents(undefined, first).map(({ reason }) => reason)).toEqual(['Accepted', 'Ready']);
    expect(statusEvents(first, status([report('a')], first))).toEqual([]);
  });

  it('tell of a refusal, and of another reason for it', () => {
    const refused = (reason: string) =>
      buildStatus({
        previous: undefined,
        generation: 1,
        nqn: undefined,
        reports: [],
        verdicts: { Accepted: { status: 'False', reason, message: 'change it' } },
        now,
      });
    expect(statusEvents(undefined, refused('NQNInUse'))).toMatchObject([
      { type: 'Warning', reason: 'NQNInUse' },
    ]);
    expect(statusEvents(refused('NQNInUse'), refused('NoFreePort'))).toHaveLength(1);
    expect(statusEvents(refused('NQNInUse'), refused('NQNInUse'))).toEqual([]);
  });

  it('tell of being degraded, and of the end of it', () => {
    const degradedNode = serving.map((condition) =>
      condition.type === 'Degraded'
        ? sampleCondition('Degraded', 'True', 'MemoryPartlyRegistered')
        : condition,
    );
    const before = status([report('a')]);
    const degraded = status(
      [report('a', { status: { observedGeneration: 1, conditions: degradedNode } })],
      before,
    );
    expect(statusEvents(before, degraded)).toMatchObject([
      { type: 'Warning', reason: 'MemoryPartlyRegistered' },
    ]);
    expect(statusEvents(degraded, status([report('a')], degraded))).toMatchObject([
      { type: 'Normal', reason: 'FullService' },
    ]);
  });

  it('warn when a target that was ready no longer is', () => {
    const before = status([report('a')]);
    const after = status([report('a', noPod)], before);
    expect(statusEvents(before, after)).toMatchObject([{ type: 'Warning', reason: 'NoPod' }]);
  });
});
