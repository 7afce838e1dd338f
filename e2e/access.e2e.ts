import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { planGuest } from '../lab/guests/plan.ts';
import { type EndToEnd, HOST, openEndToEnd } from './fixture.ts';
import { applyTarget, connectHost, deleteTarget } from './main-path.ts';
import { NvmeHost } from './nvme-host.ts';

describe('access', () => {
  let e2e: EndToEnd;
  let stranger: NvmeHost;

  beforeAll(async () => {
    e2e = await openEndToEnd();
    const other = planGuest('host-b');
    stranger = new NvmeHost(e2e.shell, HOST, { nqn: other.hostNqn, id: other.hostId });
    await applyTarget(e2e.path);
  });

  afterAll(async () => {
    await deleteTarget(e2e.path);
  });

  it('refuses a host that is not on the list', async () => {
    await stranger.prepare();
    await expect(stranger.connect(e2e.path.address, e2e.target.nqn)).rejects.toThrow();
    expect(await stranger.controllers(e2e.target.nqn)).toEqual([]);
  });

  it('shows such a host nothing of the subsystem in the discovery log', async () => {
    const log = await stranger.discover(e2e.path.address);
    expect(log.map((entry) => entry.nqn)).not.toContain(e2e.target.nqn);
  });

  it('refuses an NQN that it does not serve', async () => {
    await expect(e2e.host.connect(e2e.path.address, `${e2e.target.nqn}-other`)).rejects.toThrow();
  });

  it('still serves the host that is on the list', async () => {
    const namespaces = await connectHost(e2e.path);
    expect(namespaces.map((namespace) => namespace.nsid)).toEqual(e2e.target.nsids);
  });
});
