import { describe, expect, it } from 'vitest';
import { parseMetrics } from './dataplane-metrics.ts';

const TEXT = `HTTP/1.0 200 OK

# HELP weir_target_listener_up Serves.
# TYPE weir_target_listener_up gauge
weir_target_listener_up{target="storage/fast",listener="a"} 1
weir_target_listener_up{target="storage/fast",listener="b"} 0
weir_target_event_ring_dropped_total 4
`;

describe('parseMetrics', () => {
  it('sums the series whose labels match', () => {
    const scrape = parseMetrics(TEXT);
    expect(scrape.sum('weir_target_listener_up', {})).toBe(1);
    expect(scrape.sum('weir_target_listener_up', { listener: 'b' })).toBe(0);
    expect(scrape.sum('weir_target_event_ring_dropped_total', {})).toBe(4);
  });

  it('does not take an absent series for 0', () => {
    expect(() => parseMetrics(TEXT).sum('weir_target_nothing', {})).toThrow(/no series/);
  });
});
