import { describe, expect, it } from 'vitest';
import { parsePhaseChanges, servingAfter } from './port-phases.ts';

const line = (time: string, to: string, before = '') =>
  `${before}${JSON.stringify({ level: 'info', timeMs: Date.parse(time), component: 'dataplane', event: 'portPhase', to, reason: 'LinkUp', msg: `listener storage: … → ${to}` })}`;

describe('parsePhaseChanges', () => {
  it('finds them in a container log among other lines', () => {
    const changes = parsePhaseChanges([
      line('2026-11-23T11:00:00.250Z', 'Serving', '2026-11-23T11:00:00.251Z stdout F '),
      '2026-11-23T11:00:00.300Z stdout F {"event":"linkState","up":true}',
      'no JSON "portPhase" {',
    ]);
    expect(changes).toEqual([
      {
        atMs: Date.parse('2026-11-23T11:00:00.250Z'),
        phase: 'Serving',
        reason: 'LinkUp',
        message: 'listener storage: … → Serving',
      },
    ]);
  });
});

describe('servingAfter', () => {
  const change = (atMs: number, phase: string) => ({ atMs, phase, reason: '', message: '' });

  it('is the time from link-up to the phase that stayed', () => {
    expect(servingAfter([change(10, 'Down'), change(130, 'Arming'), change(400, 'Serving')], 100)).toBe(300);
  });

  it('counts the last time when the port came and went', () => {
    expect(servingAfter([change(200, 'Serving'), change(300, 'Holding'), change(500, 'Serving')], 100)).toBe(
      400,
    );
  });

  it('is 0 for a port that never stopped serving', () => {
    expect(servingAfter([change(10, 'Serving')], 100)).toBe(0);
  });

  it('is not known when the port does not serve in the end, or only in part', () => {
    expect(servingAfter([change(200, 'Serving'), change(300, 'Draining')], 100)).toBeUndefined();
    expect(servingAfter([change(200, 'Degraded')], 100)).toBeUndefined();
    expect(servingAfter([], 100)).toBeUndefined();
  });
});
