import { describe, expect, it } from 'vitest';
import { FakeCore } from '../core/fake-core.ts';
import { OutageHistory } from './outage-history.ts';

const STARTED = new Date('2026-11-23T10:00:00.000Z');
const at = (seconds: number): string => new Date(STARTED.getTime() + seconds * 1000).toISOString();

function setUp() {
  const core = new FakeCore();
  const history = new OutageHistory();
  core.onEvent((event) => history.observe(event));
  const phase = (seconds: number, from: string, to: string, reason = 'LinkDown', message = '') =>
    core.emit({
      type: 'portPhase',
      timeMs: STARTED.getTime() + seconds * 1000,
      listener: 'storage',
      from,
      to,
      epoch: 1,
      reason,
      message,
    });
  return { history, phase };
}

const condition = (status: 'True' | 'Unknown', lastTransitionTime: string) => ({
  type: 'Ready',
  status,
  lastTransitionTime,
  reason: 'Killed',
  message: '',
});

describe('the history of outages', () => {
  it('knows none when a port serves for the first time', () => {
    const { history, phase } = setUp();
    phase(0, 'Down', 'Arming');
    phase(1, 'Arming', 'Serving', '');
    expect(history.of('storage')).toEqual([]);
  });

  it('does not count a flap that the hold time rode through', () => {
    const { history, phase } = setUp();
    phase(1, 'Serving', 'Holding');
    phase(1.2, 'Holding', 'Serving', '');
    expect(history.of('storage')).toEqual([]);
  });

  it('counts an outage from the loss of the link until the port serves again', () => {
    const { history, phase } = setUp();
    phase(1, 'Serving', 'Holding');
    phase(1.5, 'Holding', 'Draining', 'LinkDown', 'rdma0 is down');
    expect(history.of('storage')).toEqual([
      { startTime: at(1), reason: 'LinkDown', message: 'rdma0 is down' },
    ]);
    phase(1.6, 'Draining', 'Down');
    phase(4, 'Down', 'Arming');
    phase(4.5, 'Arming', 'Degraded', 'MemoryPartlyRegistered');
    expect(history.of('storage')).toMatchObject([{ startTime: at(1), endTime: at(4.5), reason: 'LinkDown' }]);
    phase(9, 'Degraded', 'Serving', '');
    expect(history.of('storage')).toHaveLength(1);
  });

  it('has the newest first, and only so many', () => {
    const { history, phase } = setUp();
    for (let outage = 0; outage < 20; outage += 1) {
      phase(outage * 10, 'Serving', 'Draining');
      phase(outage * 10 + 5, 'Arming', 'Serving');
    }
    expect(history.of('storage')).toHaveLength(16);
    expect(history.of('storage')[0]).toMatchObject({ startTime: at(190), endTime: at(195) });
  });

  it('goes on from what the last process reported, whose end is an outage from its last word on', () => {
    const { history, phase } = setUp();
    const old = { startTime: at(-900), endTime: at(-890), reason: 'LinkDown' };
    const listeners = [
      { name: 'storage', phase: 'Unknown' as const, epoch: 0, memoryRegions: 0, outages: [old] },
    ];
    history.restore({ conditions: [condition('Unknown', at(-3))], listeners }, STARTED);
    phase(1, 'Arming', 'Serving');
    expect(history.of('storage')).toEqual([
      { startTime: at(-3), endTime: at(1), reason: 'DataplaneRestarted' },
      old,
    ]);
  });

  it('knows no earlier than its own start when the last process left no word', () => {
    const { history } = setUp();
    const listeners = [{ name: 'storage', phase: 'Serving' as const, epoch: 3, memoryRegions: 4 }];
    history.restore({ conditions: [condition('True', at(-900))], listeners }, STARTED);
    expect(history.of('storage')).toEqual([{ startTime: at(0), reason: 'DataplaneRestarted' }]);
  });

  it('takes the outage in which the process ended for one and the same', () => {
    const { history, phase } = setUp();
    const open = { startTime: at(-30), reason: 'LinkDown' };
    const listeners = [
      { name: 'storage', phase: 'Down' as const, epoch: 3, memoryRegions: 0, outages: [open] },
    ];
    history.restore({ listeners }, STARTED);
    phase(2, 'Arming', 'Serving');
    expect(history.of('storage')).toEqual([{ ...open, endTime: at(2) }]);
  });
});
