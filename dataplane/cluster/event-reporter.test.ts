import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeCore } from '../core/fake-core.ts';
import { EventReporter } from './event-reporter.ts';
import { FakeApi } from './fake-api.ts';

const object = { metadata: { name: 'fast-node-a', namespace: 'storage', uid: 'u-1' } };

beforeEach(() => vi.useFakeTimers({ now: new Date('2026-11-23T10:00:00Z') }));
afterEach(() => vi.useRealTimers());

function setUp() {
  const api = new FakeApi();
  const reporter = new EventReporter(
    api,
    { namespace: 'storage', node: 'node-a' },
    pino({ level: 'silent' }),
  );
  const core = new FakeCore();
  core.onEvent((event) => reporter.observe(event));
  const link = (up: boolean): void =>
    core.emit({ type: 'linkState', listener: 'storage', netdev: 'rdma0', up });
  return { api, reporter, core, link };
}

/** A long flap as the core reports it. */
function flapOnce(core: FakeCore, listener: string, epoch: number): void {
  const phase = (from: string, to: string, reason: string): void =>
    core.emit({ type: 'portPhase', listener, from, to, epoch, reason, message: '' });
  core.emit({ type: 'linkState', listener, netdev: 'rdma0', up: false });
  phase('Serving', 'Holding', 'LinkDown');
  phase('Holding', 'Draining', 'HoldTimeOver');
  core.emit({ type: 'drainFinished', listener, epoch, result: 'completed', durationMs: 3, queuePairs: 2 });
  phase('Draining', 'Down', 'LinkDown');
  core.emit({ type: 'linkState', listener, netdev: 'rdma0', up: true });
  phase('Down', 'Arming', 'Arming');
  phase('Arming', 'Serving', 'Serving');
}

interface WrittenEvent {
  metadata: { name: string };
  reason: string;
  note: string;
}

/** How often something happened according to the Events of that reason about a listener. */
function countOf(api: FakeApi, reason: string, listener: string): number {
  return api.writes
    .filter(({ method, body }) => {
      const event = body as WrittenEvent;
      return method === 'create' && event.reason === reason && event.note.startsWith(`listener ${listener}:`);
    })
    .reduce((sum, { body }) => {
      const { name } = (body as WrittenEvent).metadata;
      const counts = api.writes
        .filter((write) => write.path.endsWith(`/${name}`) || write.body === body)
        .map((write) => (write.body as { series?: { count: number } }).series?.count ?? 1);
      return sum + Math.max(...counts);
    }, 0);
}

describe('Events of a dataplane', () => {
  it('tell a link change at the NvmeofTargetNode', async () => {
    const { api, reporter, link } = setUp();
    reporter.setObject(object);
    link(false);
    await reporter.flush();
    expect(api.writes).toMatchObject([
      {
        method: 'create',
        path: '/apis/events.k8s.io/v1/namespaces/storage/events',
        body: {
          type: 'Warning',
          reason: 'LinkDown',
          note: 'listener storage: link rdma0 is down',
          eventTime: '2026-11-23T10:00:00.000000Z',
          regarding: { kind: 'NvmeofTargetNode', name: 'fast-node-a', uid: 'u-1' },
          reportingInstance: 'node-a',
        },
      },
    ]);
  });

  it('repeat themselves as a count, written every ten seconds at most', async () => {
    const { api, reporter, core } = setUp();
    reporter.setObject(object);
    for (let failure = 0; failure < 100; failure += 1) {
      core.emit({ type: 'memoryRegistration', listener: 'storage', result: 'failed', message: 'no memory' });
      await vi.advanceTimersByTimeAsync(1000);
    }
    await reporter.flush();
    const [first, ...patches] = api.writes;
    expect(first).toMatchObject({ method: 'create', body: { reason: 'MemoryRegistrationFailed' } });
    expect(patches.length).toBeLessThanOrEqual(11);
    expect(patches.at(-1)).toMatchObject({ method: 'mergePatch', body: { series: { count: 100 } } });
  });

  it.each([
    ['one link', 1, 20],
    ['sixteen links at once', 16, 60],
  ])('of %s through 1,000 flaps are few, and count every one', async (_, links, writesPerMinuteMax) => {
    const { api, reporter, core } = setUp();
    reporter.setObject(object);
    const writtenAt: number[] = [];
    const note = (): void => {
      while (writtenAt.length < api.writes.length) writtenAt.push(Date.now());
    };
    const names = Array.from({ length: links }, (__, index) => `listener-${index}`);
    for (let flap = 1; flap <= 1000; flap += 1) {
      for (const listener of names) flapOnce(core, listener, flap);
      await vi.advanceTimersByTimeAsync(500);
      note();
    }
    const minute = 60_000;
    const busiest = Math.max(
      ...writtenAt.map((start) => writtenAt.filter((at) => at >= start && at < start + minute).length),
    );
    expect(busiest).toBeLessThanOrEqual(writesPerMinuteMax);
    await vi.advanceTimersByTimeAsync(6 * minute);
    await reporter.flush();
    for (const listener of names) {
      expect(countOf(api, 'LinkDown', listener) + countOf(api, 'LinkFlapping', listener)).toBe(1000);
      expect(countOf(api, 'LinkDown', listener)).toBe(2);
      expect(countOf(api, 'LinkStable', listener)).toBe(1);
    }
    const objects = api.writes.filter(({ method }) => method === 'create').length;
    expect(objects).toBeLessThanOrEqual(6 * links);
  });

  it('reach an API server that was away, with the time at which things happened', async () => {
    const { api, reporter, link } = setUp();
    reporter.setObject(object);
    api.failure = new Error('connection refused');
    link(false);
    await vi.advanceTimersByTimeAsync(60_000);
    api.failure = undefined;
    await vi.advanceTimersByTimeAsync(20_000);
    expect(api.writes).toMatchObject([
      { method: 'create', body: { reason: 'LinkDown', eventTime: '2026-11-23T10:00:00.000000Z' } },
    ]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(api.writes).toHaveLength(1);
  });

  it('wait until the object is known', async () => {
    const { api, reporter, link } = setUp();
    link(false);
    await vi.advanceTimersByTimeAsync(0);
    expect(api.writes).toEqual([]);
    reporter.setObject(object);
    await reporter.flush();
    expect(api.writes).toHaveLength(1);
  });

  it('that cannot be written cost nothing else', async () => {
    const { api, reporter, core } = setUp();
    api.failure = new Error('forbidden');
    reporter.setObject(object);
    core.emit({ type: 'deviceFatal', level: 'error', device: 'rxe0', message: 'gone' });
    await expect(reporter.flush()).resolves.toBeUndefined();
  });

  it('are not made of what is no news to a person', async () => {
    const { api, reporter, core } = setUp();
    reporter.setObject(object);
    core.emit({ type: 'applied', generation: 1 });
    core.emit({ type: 'somethingNew', detail: 1 });
    await reporter.flush();
    expect(api.writes).toEqual([]);
  });
});
