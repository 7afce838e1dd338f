import { describe, expect, it } from 'vitest';
import { lastPhase, parseEvents, queuePairFailed, servingAfter } from './dataplane-log.ts';

const phase = (timeMs: number, to: string) => ({
  event: 'portPhase',
  timeMs,
  to,
  reason: 'LinkUp',
  msg: `listener storage: … → ${to}`,
});

describe('parseEvents', () => {
  it('finds them in a container log among other lines, by time', () => {
    const line = (fields: object) => `2026-11-23T11:00:00.251Z stdout F ${JSON.stringify(fields)}`;
    const events = parseEvents([
      line(phase(20, 'Serving')),
      line(phase(10, 'Arming')),
      line({ level: 'info', msg: 'serving metrics' }),
      'no JSON "event" {',
    ]);
    expect(events).toEqual([phase(10, 'Arming'), phase(20, 'Serving')]);
    expect(lastPhase(events)?.to).toBe('Serving');
  });
});

describe('servingAfter', () => {
  it('is the time from link-up to the phase that stayed', () => {
    expect(servingAfter([phase(10, 'Down'), phase(130, 'Arming'), phase(400, 'Serving')], 100)).toBe(300);
  });

  it('counts the last time when the port came and went', () => {
    expect(servingAfter([phase(200, 'Serving'), phase(300, 'Holding'), phase(500, 'Serving')], 100)).toBe(
      400,
    );
  });

  it('is 0 for a port that never stopped serving', () => {
    expect(servingAfter([phase(10, 'Serving')], 100)).toBe(0);
  });

  it('is not known when the port does not serve in the end, or only in part', () => {
    expect(servingAfter([phase(200, 'Serving'), phase(300, 'Draining')], 100)).toBeUndefined();
    expect(servingAfter([phase(200, 'Degraded')], 100)).toBeUndefined();
    expect(servingAfter([], 100)).toBeUndefined();
  });
});

describe('queuePairFailed', () => {
  const left = (reason: string) => ({ event: 'hostDisconnected', timeMs: 50, reason, msg: '' });

  it('tells a failed queue pair from a host that left and from one of before', () => {
    expect(queuePairFailed([left('TransportError')], 40)).toBe(true);
    expect(queuePairFailed([left('TransportError')], 60)).toBe(false);
    expect(queuePairFailed([left('HostDisconnected')], 40)).toBe(false);
  });
});
