import { describe, expect, it } from 'vitest';
import { FakeCore } from '../core/fake-core.ts';
import { EventStory, type Report } from './event-story.ts';

const second = 1000;
const minute = 60 * second;

/** A story under a clock that the test moves, and what it told so far. */
function setUp() {
  const story = new EventStory();
  const core = new FakeCore();
  const told: Report[] = [];
  let now = Date.parse('2026-11-23T10:00:00Z');
  core.onEvent((event) => told.push(...story.tell(event, now)));
  return {
    core,
    told,
    reasons: () => told.map(({ reason }) => reason),
    link: (up: boolean) => core.emit({ type: 'linkState', listener: 'storage', netdev: 'rdma0', up }),
    pass: (milliseconds: number) => {
      const end = now + milliseconds;
      while (now < end) {
        now = Math.min(end, now + 10 * second);
        told.push(...story.tick(now));
      }
    },
  };
}

function flap({ link, pass }: ReturnType<typeof setUp>, times: number): void {
  for (let time = 0; time < times; time += 1) {
    link(false);
    pass(10 * second);
    link(true);
    pass(10 * second);
  }
}

const phase = (from: string, to: string, reason: string, message = '') => ({
  type: 'portPhase',
  listener: 'storage',
  from,
  to,
  reason,
  message,
  epoch: 1,
});
const drained = (result: string) => ({
  type: 'drainFinished',
  listener: 'storage',
  epoch: 1,
  result,
  durationMs: 12,
  queuePairs: 3,
});
const memory = (result: string) => ({
  type: 'memoryRegistration',
  listener: 'storage',
  result,
  message: `it ${result}`,
});

describe('the story of a link', () => {
  it('tells the first two flaps one by one', () => {
    const it = setUp();
    flap(it, 2);
    expect(it.reasons()).toEqual(['LinkDown', 'LinkUp', 'LinkDown', 'LinkUp']);
  });

  it('tells of flapping from the third within ten minutes, each time that it goes down', () => {
    const it = setUp();
    flap(it, 5);
    expect(it.reasons().slice(4)).toEqual(['LinkFlapping', 'LinkFlapping', 'LinkFlapping']);
    expect(new Set(it.told.slice(4).map(({ subject }) => subject)).size).toBe(1);
  });

  it('does not call three flaps in half an hour flapping', () => {
    const it = setUp();
    for (let time = 0; time < 3; time += 1) {
      flap(it, 1);
      it.pass(10 * minute);
    }
    expect(it.reasons()).not.toContain('LinkFlapping');
  });

  it('tells when it is over and how it was, and the next flap is news again', () => {
    const it = setUp();
    flap(it, 4);
    it.pass(4 * minute);
    expect(it.reasons()).not.toContain('LinkStable');
    it.pass(minute);
    expect(it.told.at(-1)).toMatchObject({
      type: 'Normal',
      reason: 'LinkStable',
      note: 'listener storage: link rdma0 is stable again: it went down 4 times from 10:00:00Z to 10:01:10Z',
    });
    it.pass(30 * minute);
    expect(it.reasons().filter((reason) => reason === 'LinkStable')).toHaveLength(1);
    it.link(false);
    expect(it.reasons().at(-1)).toBe('LinkDown');
  });

  it('tells when a flapping link does not come back', () => {
    const it = setUp();
    flap(it, 3);
    it.link(false);
    it.pass(minute);
    expect(it.told.at(-1)).toMatchObject({ type: 'Warning', reason: 'LinkStaysDown' });
    it.link(true);
    expect(it.reasons().at(-1)).toBe('LinkUp');
  });

  it('leaves out drains that went well and service restored while it flaps, and nothing that is wrong', () => {
    const it = setUp();
    flap(it, 3);
    it.told.length = 0;
    it.core.emit(phase('Holding', 'Draining', 'HoldTimeOver'));
    it.core.emit(drained('completed'));
    it.core.emit(phase('Arming', 'Serving', 'Serving'));
    expect(it.told).toEqual([]);
    it.core.emit(drained('timedOut'));
    it.core.emit(phase('Arming', 'Degraded', 'MemoryPartlyRegistered'));
    it.core.emit(phase('Arming', 'Failed', 'ManagementQueuePairDead'));
    expect(it.reasons()).toEqual(['DrainTimedOut', 'ListenerDegraded', 'ListenerFailed']);
  });

  it('keeps listeners apart', () => {
    const it = setUp();
    flap(it, 3);
    it.core.emit({ type: 'linkState', listener: 'second', netdev: 'rdma1', up: false });
    expect(it.told.at(-1)).toMatchObject({ reason: 'LinkDown', subject: 'second' });
  });
});

describe('the story of a port', () => {
  it('tells a long outage from its cause to the end', () => {
    const it = setUp();
    it.link(false);
    it.core.emit(phase('Serving', 'Holding', 'LinkDown'));
    it.core.emit(
      phase('Holding', 'Draining', 'HoldTimeOver', 'the link did not come back within the hold time'),
    );
    it.core.emit(drained('completed'));
    it.core.emit(phase('Draining', 'Down', 'LinkDown'));
    it.link(true);
    it.core.emit(phase('Down', 'Arming', 'Arming'));
    it.core.emit({
      ...phase('Arming', 'Serving', 'Serving', 'all resources are there'),
      address: '10.9.0.1',
    });
    expect(it.told.map(({ reason, note }) => `${reason}: ${note}`)).toEqual([
      'LinkDown: listener storage: link rdma0 is down',
      'DrainCompleted: listener storage: 3 queue pairs drained in 12 ms because the link did not come back within the hold time',
      'LinkUp: listener storage: link rdma0 is up',
      'ListenerServing: listener storage is Serving at 10.9.0.1: all resources are there',
    ]);
  });

  it('tells of a drain that timed out, and of the quarantine', () => {
    const it = setUp();
    it.core.emit(phase('Holding', 'Draining', 'HoldTimeOver'));
    it.core.emit(drained('timedOut'));
    it.core.emit(phase('Draining', 'Quarantined', 'DrainTimedOut', 'work of epoch 1 did not finish'));
    expect(it.reasons()).toEqual(['DrainTimedOut', 'ListenerQuarantined']);
    expect(it.told.every(({ type }) => type === 'Warning')).toBe(true);
  });

  it('tells that memory could be registered only after it could not', () => {
    const it = setUp();
    it.core.emit(memory('succeeded'));
    expect(it.told).toEqual([]);
    it.core.emit(memory('partial'));
    it.core.emit(memory('failed'));
    it.core.emit(memory('succeeded'));
    it.core.emit(memory('succeeded'));
    expect(it.reasons()).toEqual([
      'MemoryRegistrationFailed',
      'MemoryRegistrationFailed',
      'MemoryRegistered',
    ]);
  });

  it('takes the same phase for another reason for news', () => {
    const it = setUp();
    it.core.emit(phase('Arming', 'Serving', 'Serving'));
    it.core.emit(phase('Holding', 'Serving', 'LinkBackInTime'));
    expect(new Set(it.told.map(({ subject }) => subject)).size).toBe(2);
  });

  it('tells of a broken device, and of what could not be applied', () => {
    const it = setUp();
    it.core.emit({ type: 'deviceFatal', level: 'error', device: 'rxe0', message: 'reset it' });
    it.core.emit({
      type: 'applyProblem',
      generation: 1,
      field: 'spec.listeners[0]',
      reason: 'PortInUse',
      message: 'm',
    });
    expect(it.told).toMatchObject([
      { type: 'Warning', reason: 'DeviceFatal', note: 'RDMA device rxe0: reset it' },
      { type: 'Warning', reason: 'PortInUse' },
    ]);
  });
});
