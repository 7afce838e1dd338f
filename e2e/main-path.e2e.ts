import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { scrapeTarget } from './dataplane-metrics.ts';
import { emptyReport } from './demo-report.ts';
import { testInstallation } from './deployment.ts';
import { type EndToEnd, NODE, openEndToEnd } from './fixture.ts';
import { addNamespaceLive, applyTarget, connectHost, deleteTarget, flapUnderIo } from './main-path.ts';
import type { HostNamespace } from './nvme-host.ts';
import { Steps } from './steps.ts';

const FLAPS_INSIDE = 3;
const FLAPS_OUTSIDE = 1;

const conditionsSchema = z.object({
  status: z.object({ conditions: z.array(z.object({ type: z.string(), status: z.string() })) }),
});

describe('the main path', () => {
  let e2e: EndToEnd;
  let namespaces: HostNamespace[];
  const steps = new Steps((line) => console.log(line));

  beforeAll(async () => {
    e2e = await openEndToEnd();
  });

  it('is installed so that helm test finds nothing wrong', async () => {
    expect(await testInstallation(e2e.path.cluster)).toMatch(/Phase: +Succeeded/);
  });

  it('serves what kubectl applied: the host discovers, connects and sees the namespaces', async () => {
    await applyTarget(e2e.path);
    namespaces = await connectHost(e2e.path);
    expect(namespaces.map((namespace) => namespace.nsid)).toEqual(e2e.path.target.nsids);
  });

  it('keeps verified I/O going while the link is taken down and up on the node', async () => {
    const report = emptyReport();
    await flapUnderIo({ ...e2e.path, flaps: FLAPS_INSIDE }, namespaces, steps, report);
    expect(report.flaps).toHaveLength(FLAPS_INSIDE);
    expect(report.fio).toMatchObject(namespaces.map(() => ({ ok: true, verifyErrors: 0, ioErrors: 0 })));
    expect(report.dataplaneRestarts).toBe(0);
  });

  it('keeps verified I/O going when the carrier is lost from outside', async () => {
    const report = emptyReport();
    const setLink = (state: 'up' | 'down') => e2e.lab.link(NODE, state, { from: 'outside' });
    await flapUnderIo({ ...e2e.path, flaps: FLAPS_OUTSIDE, setLink }, namespaces, steps, report);
    expect(report.fio).toMatchObject(namespaces.map(() => ({ ok: true, verifyErrors: 0, ioErrors: 0 })));
    expect(report.dataplaneRestarts).toBe(0);
  });

  it('tells the same story in conditions, Events and metrics', async () => {
    const target = conditionsSchema.parse(
      await e2e.path.cluster.get(['nvmeoftarget', e2e.path.target.name, '-n', e2e.path.target.namespace]),
    );
    const status = (type: string) =>
      target.status.conditions.find((condition) => condition.type === type)?.status;
    expect(status('Ready')).toBe('True');
    expect(status('LinksUp')).toBe('True');
    const events = await e2e.path.cluster.kubectl(['get', 'events', '-n', e2e.path.target.namespace]);
    expect(events).toMatch(/Link/);
    const metrics = await scrapeTarget(e2e.path, NODE);
    const down = metrics.sum('weir_target_link_transitions_total', { direction: 'down' });
    expect(down).toBeGreaterThanOrEqual(FLAPS_INSIDE + FLAPS_OUTSIDE);
    expect(metrics.sum('weir_target_listener_up', {})).toBe(1);
    expect(metrics.sum('weir_target_hosts_connected', {})).toBe(1);
  });

  it('shows a namespace that is added live, with no rescan by hand', async () => {
    await addNamespaceLive(e2e.path);
  });

  it('holds deletion while the host is connected, then leaves nothing behind', async () => {
    await deleteTarget(e2e.path);
  });
});
