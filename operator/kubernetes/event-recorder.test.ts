import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import type { Api } from './api-client.ts';
import { type EventDetails, EventRecorder } from './event-recorder.ts';
import { RESOURCES } from './resource.ts';

const target = { metadata: { name: 'fast', namespace: 'storage', uid: 'u-1' } };
const down: EventDetails = {
  type: 'Warning',
  reason: 'LinkDown',
  action: 'Recover',
  note: 'a: link rdma0 is down',
};

function setUp() {
  const created: string[] = [];
  const counts: number[] = [];
  const refuse = () => Promise.reject(new Error('not asked for'));
  const api: Api = {
    get: refuse,
    replace: refuse,
    apply: refuse,
    delete: refuse,
    create: (_path, object) => {
      created.push((object as { note: string }).note);
      return Promise.resolve(object);
    },
    mergePatch: (_path, patch) => {
      counts.push((patch as { series: { count: number } }).series.count);
      return Promise.resolve(patch);
    },
    watch: async function* () {},
  };
  const recorder = new EventRecorder(api, pino({ level: 'silent' }));
  const record = (details: EventDetails) => recorder.record(RESOURCES.targets, target, details);
  return { created, counts, record };
}

describe('Events of the operator', () => {
  it('count what happens again on the Event that is there', async () => {
    const { created, counts, record } = setUp();
    for (let time = 0; time < 3; time += 1) await record(down);
    expect(created).toHaveLength(1);
    expect(counts).toEqual([2, 3]);
  });

  it('tell something else apart by its note', async () => {
    const { created, record } = setUp();
    await record(down);
    await record({ ...down, note: 'b: link rdma0 is down' });
    expect(created).toHaveLength(2);
  });

  it('of links that flap on many nodes are one, whatever the notes say', async () => {
    const { created, counts, record } = setUp();
    for (const node of ['a', 'b', 'c', 'd'])
      await record({ ...down, note: `${node}: link rdma0 is down`, subject: 'Ready' });
    expect(created).toEqual(['a: link rdma0 is down']);
    expect(counts.at(-1)).toBe(4);
  });
});
