import { describe, expect, it } from 'vitest';
import { nvmeofTargetNodeStatusSchema } from '../../crds/nvmeof-target-node.ts';
import { sampleListener, sampleNamespace, sampleStats } from '../core/fake-core.ts';
import type { CoreStats } from '../core/stats.ts';
import type { ConditionType } from './conditions.ts';
import { buildStatus, type StatusInput } from './status.ts';

const now = new Date('2026-11-23T10:00:00.000Z');

function status(stats: Partial<CoreStats>, changes: Partial<StatusInput> = {}) {
  return buildStatus({
    stats: sampleStats({ generation: 3, ...stats }),
    generation: 3,
    refusal: undefined,
    node: 'node-a',
    version: '0.1.0',
    startTime: now,
    previous: [],
    outagesOf: () => [],
    now,
    ...changes,
  });
}

function condition(built: ReturnType<typeof status>, type: ConditionType) {
  return built.conditions?.find((one) => one.type === type);
}

const downListener = sampleListener({
  phase: 'Down',
  linkUp: false,
  reason: 'LinkDown',
  message: 'link rdma0 is down',
});

describe('the status of a node', () => {
  it('fits the schema of the API', () => {
    const host = {
      subsystem: 'nqn.2026-11.dev.weir:fast',
      hostNqn: 'nqn.2014-08.org.nvmexpress:uuid:x',
      controllerId: 1,
      listener: 'storage',
      source: '10.9.0.2',
      queues: 3,
      sinceMs: 1_790_000_000_000,
      discovery: false,
    };
    const built = status({ hosts: [host], hostsTotal: 1, listeners: [sampleListener(), downListener] });
    const { listeners, ...rest } = built;
    expect(() => nvmeofTargetNodeStatusSchema.parse({ ...rest, listeners: [listeners?.[0]] })).not.toThrow();
    expect(built.hosts?.[0]).toMatchObject({ controllerID: 1, connectedSince: '2026-09-21T14:13:20Z' });
  });

  it('is Ready when everything serves', () => {
    const built = status({});
    expect(condition(built, 'Ready')).toMatchObject({
      status: 'True',
      reason: 'Ready',
      observedGeneration: 3,
    });
    expect(condition(built, 'Degraded')?.status).toBe('False');
    expect(condition(built, 'Accepted')?.status).toBe('True');
  });

  it('names the link as the cause when a link is down', () => {
    const built = status({ listeners: [downListener] });
    expect(condition(built, 'LinksUp')).toMatchObject({ status: 'False', reason: 'LinkDown' });
    expect(condition(built, 'ListenersReady')).toMatchObject({
      status: 'False',
      message: 'listener storage: Down: link rdma0 is down',
    });
    expect(condition(built, 'Ready')).toMatchObject({ status: 'False', reason: 'LinkDown' });
    expect(condition(built, 'DeviceHealthy')?.status).toBe('True');
  });

  it('is Ready but Degraded when a port serves with less', () => {
    const listener = sampleListener({
      phase: 'Degraded',
      reason: 'MemoryRegistrationPartial',
      message: '2 of 4',
    });
    const built = status({ listeners: [listener] });
    expect(condition(built, 'Degraded')).toMatchObject({
      status: 'True',
      reason: 'MemoryRegistrationPartial',
    });
    expect(condition(built, 'Ready')?.status).toBe('True');
  });

  it('says what to change when the desired state was refused', () => {
    const refusal = { reason: 'InvalidSpec', message: 'spec.listeners[0].port: must be at most 65535' };
    const built = status({}, { refusal });
    expect(condition(built, 'Accepted')).toMatchObject({ status: 'False', ...refusal });
    expect(condition(built, 'ListenersReady')?.status).toBe('True');
    expect(condition(built, 'Ready')?.status).toBe('True');
    const first = status({ generation: 0, listeners: [], namespaces: [] }, { refusal });
    expect(condition(first, 'Ready')).toMatchObject({ status: 'False', ...refusal });
  });

  it('names every namespace that failed', () => {
    const failed = sampleNamespace({
      nsid: 2,
      state: 'Failed',
      reason: 'NoSuchFile',
      message: '/x: no such file',
    });
    const built = status({ namespaces: [sampleNamespace(), failed] });
    expect(condition(built, 'NamespacesReady')).toMatchObject({ status: 'False', reason: 'NoSuchFile' });
    expect(built.namespaces?.[1]).toMatchObject({ nsid: 2, state: 'Failed', message: '/x: no such file' });
  });

  it('is not Ready while a namespace is being opened', () => {
    const built = status({ namespaces: [sampleNamespace({ state: 'Opening', sizeBytes: 0 })] });
    expect(condition(built, 'Ready')).toMatchObject({ status: 'False', reason: 'Opening' });
    expect(built.namespaces?.[0]?.state).toBe('Pending');
  });

  it('says that a change was refused while what was there is served on', () => {
    const kept = sampleNamespace({ reason: 'ShrinkRefused', message: 'a file is never truncated' });
    const built = status({ namespaces: [kept] });
    expect(condition(built, 'Accepted')).toMatchObject({ status: 'False', reason: 'ShrinkRefused' });
    expect(condition(built, 'NamespacesReady')?.status).toBe('True');
    const grown = status({ namespaces: [sampleNamespace({ reason: 'Grown' })] });
    expect(condition(grown, 'Accepted')?.status).toBe('True');
  });

  it('says of which host the key is missing, while the others are served', () => {
    const message = 'Secret host-a is not there, or without the key hostKey';
    const problem = { subsystem: 'nqn.2026-11.dev.weir:fast', hostNqn: 'nqn.2026-11.a:b', message };
    const built = status({ authenticationProblems: [problem] });
    expect(condition(built, 'Accepted')).toMatchObject({
      status: 'False',
      reason: 'SecretWithoutKey',
      message: `host nqn.2026-11.a:b: ${message}`,
    });
    expect(condition(built, 'Ready')?.status).toBe('True');
  });

  it('keeps the time of a condition until its status changes', () => {
    const first = status({});
    const later = new Date('2026-11-23T10:05:00.000Z');
    const previous = first.conditions ?? [];
    const same = status({}, { previous, now: later });
    expect(condition(same, 'Ready')?.lastTransitionTime).toBe(now.toISOString());
    const changed = status({ listeners: [downListener] }, { previous, now: later });
    expect(condition(changed, 'Ready')?.lastTransitionTime).toBe(later.toISOString());
    expect(condition(changed, 'Accepted')?.lastTransitionTime).toBe(now.toISOString());
  });

  it('lists a bounded number of hosts in a fixed order, without those that only discover', () => {
    const hosts = Array.from({ length: 100 }, (_, index) => ({
      subsystem: 'nqn.2026-11.dev.weir:fast',
      hostNqn: `nqn.host:${index}`,
      controllerId: 100 - index,
      listener: 'storage',
      source: '10.9.0.2',
      queues: 1,
      sinceMs: 0,
      discovery: index === 99,
    }));
    const built = status({ hosts, hostsTotal: 100 });
    expect(built.hosts).toHaveLength(64);
    expect(built.hosts?.[0]?.controllerID).toBe(2);
    expect(built.connectedHosts).toBe(100);
  });

  it('cuts texts to what the API takes', () => {
    const message = 'x'.repeat(5000);
    const built = status({ listeners: [sampleListener({ phase: 'Failed', reason: 'a b-c', message })] });
    expect(built.listeners?.[0]?.message).toHaveLength(1024);
    expect(condition(built, 'DeviceHealthy')?.reason).toBe('abc');
  });
});
