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

  it('of a link that flaps all the time are two, with counts', async () => {
    const { api, reporter, link } = setUp();
    reporter.setObject(object);
    for (let flap = 0; flap < 100; flap += 1) {
      link(false);
      link(true);
      await vi.advanceTimersByTimeAsync(1000);
    }
    await reporter.flush();
    const creates = api.writes.filter((write) => write.method === 'create');
    expect(creates).toHaveLength(2);
    expect(api.writes.length).toBeLessThanOrEqual(2 + 2 * 11);
    expect(api.writes.at(-1)?.body).toMatchObject({ series: { count: 100 } });
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
    core.emit({
      type: 'drainFinished',
      listener: 'storage',
      epoch: 1,
      result: 'completed',
      durationMs: 3,
      queuePairs: 1,
    });
    await reporter.flush();
    expect(api.writes).toEqual([]);
  });
});
