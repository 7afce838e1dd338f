import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApiError } from '../kubernetes/api-error.ts';
import { microTime } from '../kubernetes/micro-time.ts';
import { LEADER_ELECTION_TIMES, LeaderElector } from './leader-elector.ts';
import type { Lease, LeaseSpec, LeaseStore } from './lease.ts';

/** One lease in memory, with the API's optimistic locking. */
class MemoryLeaseStore implements LeaseStore {
  lease: Lease | undefined;
  isDown = false;
  #version = 0;

  async read(): Promise<Lease | undefined> {
    if (this.isDown) throw new Error('connection refused');
    return this.lease;
  }

  async create(spec: LeaseSpec): Promise<Lease> {
    if (this.lease !== undefined) throw new ApiError('POST', 409, '{}');
    return this.#store(spec);
  }

  async replace(read: Lease, spec: LeaseSpec): Promise<Lease> {
    if (this.isDown) throw new Error('connection refused');
    if (read.metadata.resourceVersion !== this.lease?.metadata.resourceVersion)
      throw new ApiError('PUT', 409, '{}');
    return this.#store(spec);
  }

  #store(spec: LeaseSpec): Lease {
    this.#version += 1;
    this.lease = { metadata: { name: 'weir-operator', resourceVersion: String(this.#version) }, spec };
    return this.lease;
  }
}

let nowMs = 0;
let store: MemoryLeaseStore;
beforeEach(() => {
  nowMs = 0;
  store = new MemoryLeaseStore();
});

afterEach(() => {
  vi.useRealTimers();
});

function elector(identity: string, clockSkewMs = 0): LeaderElector {
  return new LeaderElector({
    store,
    identity,
    logger: pino({ level: 'silent' }),
    monotonicMs: () => nowMs,
    wallClock: () => new Date(Date.UTC(2026, 10, 23) + nowMs + clockSkewMs),
  });
}

describe('leader election', () => {
  it('makes the first replica the leader, and no other while it renews', async () => {
    const [first, second] = [elector('a'), elector('b')];
    expect(await first.attempt()).toBe('held');
    for (let tick = 0; tick < 60; tick += 1) {
      nowMs += 2000;
      expect(await first.attempt()).toBe('held');
      expect(await second.attempt()).toBe('taken');
    }
    expect(first.isLeader && !second.isLeader).toBe(true);
  });

  it('hands over once the lease has not been renewed for its duration', async () => {
    const [first, second] = [elector('a'), elector('b')];
    await first.attempt();
    expect(await second.attempt()).toBe('taken');
    nowMs += 14_999;
    expect(await second.attempt()).toBe('taken');
    nowMs += 1;
    expect(await second.attempt()).toBe('held');
    expect(store.lease?.spec).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 });
    expect(await first.attempt()).toBe('taken');
  });

  it('judges the lease by when it saw it change, whatever the clock of its holder says', async () => {
    const [first, second] = [elector('a', -3_600_000), elector('b')];
    await first.attempt();
    expect(await second.attempt()).toBe('taken');
    nowMs += 10_000;
    await first.attempt();
    nowMs += 10_000;
    expect(await second.attempt()).toBe('taken');
  });

  it('is not fooled by the clock of its own node, years ahead or behind', async () => {
    for (const skewMs of [-1e11, 1e11]) {
      store.lease = undefined;
      const [first, second] = [elector('a'), elector('b', skewMs)];
      await first.attempt();
      for (let tick = 0; tick < 20; tick += 1) {
        expect(await second.attempt()).toBe('taken');
        nowMs += 2000;
        expect(await first.attempt()).toBe('held');
      }
      expect(await second.attempt()).toBe('taken');
      nowMs += 15_000;
      expect(await second.attempt()).toBe('held');
    }
  });

  it('renews with one request, and outlives answers that take 5 s each', async () => {
    vi.useFakeTimers();
    const leader = new LeaderElector({ store, identity: 'a', logger: pino({ level: 'silent' }) });
    await leader.attempt();
    const [read, replace] = [store.read.bind(store), store.replace.bind(store)];
    const late = async <T>(work: () => Promise<T>): Promise<T> => {
      await new Promise((resolve) => setTimeout(resolve, 5000));
      return await work();
    };
    store.read = () => late(read);
    store.replace = (lease, spec) => late(() => replace(lease, spec));
    const stop = new AbortController();
    const held = leader.hold(stop.signal);
    for (let second = 0; second < 120; second += 1) {
      await vi.advanceTimersByTimeAsync(1000);
      expect([second, leader.mayWrite]).toEqual([second, true]);
    }
    stop.abort();
    await vi.advanceTimersByTimeAsync(5000);
    expect(await held).toBe('aborted');
  });

  it('lets nothing be written any more at the deadline, even before it is noticed', async () => {
    const first = elector('a');
    expect(first.mayWrite).toBe(false);
    await first.attempt();
    nowMs += LEADER_ELECTION_TIMES.renewDeadlineSeconds * 1000 - 1;
    expect(first.mayWrite).toBe(true);
    nowMs += 1;
    expect(first.isLeader && !first.mayWrite).toBe(true);
  });

  it('does not count a renewal whose answer comes after it was given up', async () => {
    const first = elector('a');
    const abandoned = new AbortController();
    const attempt = first.attempt(abandoned.signal);
    abandoned.abort();
    expect(await attempt).toBe('failed');
    expect(first.isLeader).toBe(false);
  });

  it('lets one of two replicas win that try at the same moment', async () => {
    store.lease = { metadata: { name: 'weir-operator', resourceVersion: '0' }, spec: { holderIdentity: '' } };
    const results = await Promise.all([elector('a').attempt(), elector('b').attempt()]);
    expect(results.sort()).toEqual(['failed', 'held']);
  });

  it('takes over at once when the lease was given up', async () => {
    const [first, second] = [elector('a'), elector('b')];
    await first.attempt();
    await first.release();
    expect(first.isLeader).toBe(false);
    expect(await second.attempt()).toBe('held');
  });

  it('does not take back what it gave up while it was not the leader', async () => {
    const [first, second] = [elector('a'), elector('b')];
    await first.attempt();
    await second.attempt();
    await second.release();
    expect(store.lease?.spec?.holderIdentity).toBe('a');
  });

  it('is lost when it cannot be renewed before others may take over', async () => {
    vi.useFakeTimers();
    const leader = new LeaderElector({ store, identity: 'a', logger: pino({ level: 'silent' }) });
    await leader.attempt();
    store.isDown = true;
    const started = performance.now();
    const held = leader.hold(new AbortController().signal);
    await vi.advanceTimersByTimeAsync(LEADER_ELECTION_TIMES.leaseSeconds * 1000);
    expect(await held).toBe('lost');
    expect(leader.isLeader).toBe(false);
    expect(performance.now() - started).toBeLessThanOrEqual(LEADER_ELECTION_TIMES.leaseSeconds * 1000);
  });

  it('is lost when a renewal hangs', async () => {
    vi.useFakeTimers();
    const leader = new LeaderElector({ store, identity: 'a', logger: pino({ level: 'silent' }) });
    await leader.attempt();
    store.replace = () => new Promise(() => undefined);
    const held = leader.hold(new AbortController().signal);
    await vi.advanceTimersByTimeAsync(LEADER_ELECTION_TIMES.leaseSeconds * 1000 - 1);
    expect(await held).toBe('lost');
  });

  it('is lost at once when another replica has the lease', async () => {
    vi.useFakeTimers();
    const leader = new LeaderElector({ store, identity: 'a', logger: pino({ level: 'silent' }) });
    await leader.attempt();
    store.lease = {
      metadata: { name: 'weir-operator', resourceVersion: '99' },
      spec: { holderIdentity: 'b' },
    };
    const held = leader.hold(new AbortController().signal);
    await vi.advanceTimersByTimeAsync(LEADER_ELECTION_TIMES.retrySeconds * 1000);
    expect(await held).toBe('lost');
  });

  it('writes times as the API takes them', () => {
    expect(microTime(new Date(Date.UTC(2026, 10, 23, 8, 1, 2, 3)))).toBe('2026-11-23T08:01:02.003000Z');
  });
});
