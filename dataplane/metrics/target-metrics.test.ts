import { describe, expect, it } from 'vitest';
import { FakeCore, sampleListener, sampleStats } from '../core/fake-core.ts';
import type { CoreStats } from '../core/stats.ts';
import { sampleSpec } from '../sample-spec.ts';
import { TargetMetrics } from './target-metrics.ts';

const identity = { target: 'storage/fast', node: 'node-a' };
const own = 'target="storage/fast",node="node-a"';

async function scrape(stats: CoreStats, metrics = new TargetMetrics()): Promise<string[]> {
  metrics.update(stats, identity, '0.1.0', sampleSpec());
  return (await metrics.registry.metrics()).split('\n');
}

describe('the metrics of a dataplane', () => {
  it('exist with 0 from the start, so that the first event is an increase', async () => {
    const lines = await scrape(sampleStats());
    for (const line of [
      `weir_target_link_transitions_total{${own},listener="storage",direction="down"} 0`,
      `weir_target_drains_total{${own},listener="storage",reason="LinkDown",result="timedOut"} 0`,
      `weir_target_drains_total{${own},listener="storage",reason="ShuttingDown",result="timedOut"} 0`,
      `weir_target_drains_total{${own},listener="storage",reason="Unknown",result="completed"} 0`,
      `weir_target_device_fatal_total{${own},listener="storage",device="rxe0"} 0`,
      `weir_target_memory_registrations_total{${own},listener="storage",device="rxe0",result="failed"} 0`,
      `weir_target_connects_rejected_total{${own},listener="storage",reason="NotServing"} 0`,
      `weir_target_async_events_total{${own},listener="storage",device="rxe0",type="PORT_ERR"} 0`,
      `weir_target_operations_total{${own},op="read"} 0`,
      `weir_target_keepalive_timeouts_total{${own}} 0`,
      `weir_target_config_reload_failures_total{${own}} 0`,
    ]) {
      expect(lines).toContain(line);
    }
  });

  it('each have a series from the first scrape', async () => {
    const lines = await scrape(sampleStats());
    const empty = lines
      .flatMap((line) => /^# TYPE (weir_\S+) /.exec(line)?.[1] ?? [])
      .filter((name) => !lines.some((line) => line.startsWith(name) && line.includes('{')));
    expect(empty).toEqual([]);
  });

  it('say of a device what the condition DeviceHealthy says', async () => {
    const healthy = async (changes: Parameters<typeof sampleListener>[0]) => {
      const lines = await scrape(sampleStats({ listeners: [sampleListener(changes)] }));
      return lines.find((line) => line.startsWith('weir_target_device_healthy{'))?.split(' ')[1];
    };
    expect(await healthy({})).toBe('1');
    expect(await healthy({ phase: 'Down', linkUp: false, reason: 'LinkDown' })).toBe('1');
    expect(await healthy({ phase: 'Failed', reason: 'PortInUse' })).toBe('1');
    expect(await healthy({ phase: 'Failed', reason: 'DeviceFatal' })).toBe('0');
    expect(await healthy({ phase: 'Failed', reason: 'ManagementQueuePairDead' })).toBe('0');
  });

  it('name the subsystem that hosts connect to', async () => {
    expect(await scrape(sampleStats())).toContain(
      `weir_target_subsystem_info{${own},nqn="nqn.2026-11.dev.weir:fast"} 1`,
    );
  });

  it('show the phase of a port as one series each', async () => {
    const lines = await scrape(sampleStats({ listeners: [sampleListener({ phase: 'Holding' })] }));
    expect(lines).toContain(`weir_target_port_phase{${own},listener="storage",phase="Holding"} 1`);
    expect(lines).toContain(`weir_target_port_phase{${own},listener="storage",phase="Serving"} 0`);
    expect(lines).toContain(`weir_target_listener_up{${own},listener="storage"} 0`);
  });

  it('show totals as they are, not added up from scrape to scrape', async () => {
    const metrics = new TargetMetrics();
    const stats = sampleStats({ keepAliveTimeouts: 3 });
    await scrape(stats, metrics);
    expect(await scrape(stats, metrics)).toContain(`weir_target_keepalive_timeouts_total{${own}} 3`);
  });

  it('forget a listener that is gone', async () => {
    const metrics = new TargetMetrics();
    await scrape(sampleStats(), metrics);
    const lines = await scrape(sampleStats({ listeners: [] }), metrics);
    expect(lines.filter((line) => line.includes('listener="storage"'))).toEqual([]);
  });

  it('keep the name of a device that is away, so that its counters stay in one series', async () => {
    const metrics = new TargetMetrics();
    await scrape(sampleStats(), metrics);
    const gone = sampleStats({ listeners: [sampleListener({ device: null, deviceFatal: 1 })] });
    expect(await scrape(gone, metrics)).toContain(
      `weir_target_device_fatal_total{${own},listener="storage",device="rxe0"} 1`,
    );
  });

  it("give the core's histograms cumulative buckets", async () => {
    const drainDuration = { boundsSeconds: [0.001, 0.1], counts: [2, 1, 4], sumSeconds: 9.5, count: 7 };
    const lines = await scrape(sampleStats({ listeners: [sampleListener({ drainDuration })] }));
    const series = `{${own},listener="storage"`;
    expect(lines.filter((line) => line.startsWith('weir_target_drain_duration_seconds'))).toEqual([
      `weir_target_drain_duration_seconds_bucket${series},le="0.001"} 2`,
      `weir_target_drain_duration_seconds_bucket${series},le="0.1"} 3`,
      `weir_target_drain_duration_seconds_bucket${series},le="+Inf"} 7`,
      `weir_target_drain_duration_seconds_sum${series}} 9.5`,
      `weir_target_drain_duration_seconds_count${series}} 7`,
    ]);
  });

  it('split drains by the reason that the events told, and keep the total true', async () => {
    const metrics = new TargetMetrics();
    const core = new FakeCore();
    core.onEvent((event) => metrics.observeEvent(event));
    const phase = { type: 'portPhase', listener: 'storage', from: 'Holding', epoch: 1, message: '' };
    const finished = { type: 'drainFinished', listener: 'storage', epoch: 1, durationMs: 5, queuePairs: 1 };
    core.emit({ ...phase, to: 'Draining', reason: 'AddressChanged' });
    core.emit({ ...finished, result: 'completed' });
    core.emit({ ...phase, to: 'Draining', reason: 'HoldTimeOver' });
    core.emit({ ...finished, result: 'completed' });
    const lines = await scrape(
      sampleStats({ listeners: [sampleListener({ drains: { completed: 3, timedOut: 0 } })] }),
      metrics,
    );
    const series = `weir_target_drains_total{${own},listener="storage"`;
    expect(lines).toContain(`${series},reason="AddressChanged",result="completed"} 1`);
    expect(lines).toContain(`${series},reason="Unknown",result="completed"} 1`);
    expect(lines).toContain(`${series},reason="LinkDown",result="completed"} 1`);
    expect(lines).toContain(`${series},reason="LinkDown",result="timedOut"} 0`);
  });
});
