/** Pods that are replaced and dataplanes that leave, under verified I/O: with one path, and with two. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { planGuest } from '../lab/guests/plan.ts';
import { type FioRun, startFio } from './fio.ts';
import { type EndToEnd, IMAGE, NODE, openEndToEnd } from './fixture.ts';
import { mustExec } from './guest-shell.ts';
import { IoRateSampler, longestStall } from './io-rate.ts';
import { waitForFlow } from './link-flap.ts';
import { applyTarget, connectHost, dataplanePods, deleteTarget } from './main-path.ts';
import { StandaloneTarget } from './standalone-target.ts';
import { waitUntil } from './wait-until.ts';

const FLOW = 30;
const FIO = { blockSizeBytes: 4096, ioDepth: 4, sizeBytes: 16 << 20, mode: 'verify' } as const;

/** Longest stall of a host that changes its path. */
const SWITCH_STALL_MS = 2000;

/**
 * Longest stall of a host that waits for the one path it has: the pod leaves, the next is made and starts on an
 * emulated guest (up to a minute on a busy machine), the host comes back.
 */
const RESTART_STALL_MS = 180_000;

/** Changed templates, each unlike the one before. */
let template = 0;

describe('a pod that is replaced, with one path', () => {
  let e2e: EndToEnd;
  let sampler: IoRateSampler;
  let fio: FioRun;

  beforeAll(async () => {
    e2e = await openEndToEnd();
    await applyTarget(e2e.path);
    await connectHost(e2e.path);
  });

  afterAll(async () => {
    await deleteTarget(e2e.path);
  });

  beforeEach(async () => {
    const [namespace] = await e2e.host.namespaces(e2e.target.nqn);
    const device = namespace?.device ?? '';
    sampler = new IoRateSampler(e2e.shell, e2e.host.guest, device, 600);
    fio = startFio(e2e.shell, e2e.host.guest, { ...FIO, device, runtimeSeconds: 400 });
    await waitForFlow([sampler], FLOW);
  });

  afterEach(async () => {
    await sampler.stop();
    await fio.kill();
  });

  const namespaced = () => ['-n', e2e.target.namespace];

  /** Another pod serves and the host is back; how long its I/O stood still. */
  const replaced = async (before: string | undefined, sinceMs: number): Promise<number> => {
    await waitUntil(
      'another pod',
      async () => {
        const pods = await dataplanePods(e2e.path);
        return (pods.length === 1 && pods[0]?.uid !== before) || undefined;
      },
      { timeoutSeconds: 120 },
    );
    await e2e.cluster.waitFor(
      `nvmeoftarget/${e2e.target.name}`,
      e2e.target.namespace,
      'condition=Ready',
      180,
    );
    await waitForFlow([sampler], FLOW);
    return longestStall(sampler.samples, sinceMs);
  };

  const expectNoErrors = async (): Promise<void> => {
    expect(await fio.stop()).toMatchObject({ ok: true, verifyErrors: 0, ioErrors: 0 });
  };

  it('tells its host first; the host waits and resumes: no I/O error, and the operator waits for it', async () => {
    const [before] = await dataplanePods(e2e.path);
    const sinceMs = Date.now();
    template += 1;
    const patch = { spec: { resources: { requests: { cpu: `${110 + template}m` } } } };
    await e2e.cluster.kubectl([
      ...['patch', 'nvmeoftarget', e2e.target.name, ...namespaced()],
      ...['--type=merge', `--patch=${JSON.stringify(patch)}`],
    ]);
    const stallMs = await replaced(before?.uid, sinceMs);
    console.log(`one path, changed resources: I/O stood still for ${stallMs} ms`);
    expect(stallMs).toBeLessThan(RESTART_STALL_MS);
    await e2e.cluster.waitFor(
      `nvmeoftarget/${e2e.target.name}`,
      e2e.target.namespace,
      'jsonpath={.status.conditions[?(@.type=="Progressing")].reason}=Complete',
      120,
    );
    await expectNoErrors();
    const reasons = (
      await e2e.cluster.kubectl(['get', 'events', ...namespaced(), '-o', 'jsonpath={.items[*].reason}'])
    ).split(' ');
    expect(reasons).toEqual(expect.arrayContaining(['ReplacingPod', 'PathsLeaving', 'PathsInaccessible']));
  });

  it('does the same when it is evicted, which its disruption budget allows', async () => {
    const budget = await waitUntil(
      'the disruption controller to allow it',
      async () => {
        const found = budgetSchema.parse(
          await e2e.cluster.get(['poddisruptionbudget', `weir-target-${e2e.target.name}`, ...namespaced()]),
        );
        return found.status.disruptionsAllowed === 1 ? found : undefined;
      },
      { timeoutSeconds: 60 },
    );
    expect(budget.spec.minAvailable).toBe(0);
    const names = await e2e.cluster.kubectl([
      ...['get', 'pods', ...namespaced(), '-l', `weir.dev/target=${e2e.target.name}`],
      ...['-o', 'jsonpath={.items[*].metadata.name}'],
    ]);
    const [before] = await dataplanePods(e2e.path);
    const sinceMs = Date.now();
    const { namespace } = e2e.target;
    await e2e.cluster.kubectl(
      ['create', '--raw', `/api/v1/namespaces/${namespace}/pods/${names.trim()}/eviction`, '-f', '-'],
      {
        input: JSON.stringify({
          apiVersion: 'policy/v1',
          kind: 'Eviction',
          metadata: { name: names.trim(), namespace },
        }),
      },
    );
    const stallMs = await replaced(before?.uid, sinceMs);
    console.log(`one path, eviction: I/O stood still for ${stallMs} ms`);
    expect(stallMs).toBeLessThan(RESTART_STALL_MS);
    await expectNoErrors();
  });
});

const budgetSchema = z.object({
  spec: z.object({ minAvailable: z.number() }),
  status: z.object({ disruptionsAllowed: z.number() }),
});

/** Two dataplanes that serve one subsystem from one disk, each as if on a node of its own. */
describe('a dataplane that leaves, with two paths', () => {
  const NQN = 'nqn.2026-11.dev.weir:two-paths';
  const PORTS = [4431, 4432] as const;
  /** Two block devices of one file: what two nodes have of a disk that both reach. */
  const DISK = `
    set -e
    mkdir -p /var/lib/weir
    truncate -s 64M /var/lib/weir/two-paths.img
    for n in 1 2; do losetup --show -f /var/lib/weir/two-paths.img; done`;
  let e2e: EndToEnd;
  let devices: string[] = [];
  const dataplanes: StandaloneTarget[] = [];
  let sampler: IoRateSampler;
  let fio: FioRun;

  const configure = (index: number, paths: object = {}) =>
    dataplane(index).configure({
      nodeName: NODE,
      target: 'local/two-paths',
      listeners: [
        { name: 'storage', addressFrom: { address: planGuest(NODE).rdmaAddress }, port: PORTS[index] ?? 0 },
      ],
      subsystems: [
        {
          nqn: NQN,
          access: { policy: 'AllowList', hosts: [{ nqn: e2e.host.identity.nqn }] },
          controllerIDs: { first: 1 + index * 100, last: 100 + index * 100 },
          namespaces: [{ nsid: 1, backend: { blockDevice: { path: devices[index] ?? '' } } }],
        },
      ],
      ...paths,
    });
  const dataplane = (index: number): StandaloneTarget => {
    const found = dataplanes[index];
    if (found === undefined) throw new Error(`no dataplane ${index}`);
    return found;
  };
  const serving = (index: number) =>
    waitUntil(
      `dataplane ${index} to serve`,
      async () => (await dataplane(index).scrape()).sum('weir_target_listener_up', {}) === 1 || undefined,
      { timeoutSeconds: 120, describe: () => dataplane(index).log.slice(-5).join('\n') },
    );
  const connect = (index: number) =>
    e2e.host.connect({ address: planGuest(NODE).rdmaAddress, port: PORTS[index] ?? 0 }, NQN);
  const live = (count: number) =>
    waitUntil(
      `${count} live paths`,
      async () =>
        (await e2e.host.controllers(NQN)).filter(({ state }) => state === 'live').length === count ||
        undefined,
      { timeoutSeconds: 120 },
    );
  const said = (index: number, state: string, count: number) =>
    waitUntil(
      `dataplane ${index} to say ${state}`,
      () => dataplane(index).log.filter((line) => line.includes(`→ ${state}`)).length >= count || undefined,
      {
        timeoutSeconds: 30,
        intervalMilliseconds: 50,
        describe: () => dataplane(index).log.slice(-5).join('\n'),
      },
    );

  beforeAll(async () => {
    e2e = await openEndToEnd();
    devices = (await mustExec(e2e.shell, NODE, ['sh', '-c', DISK])).trim().split('\n');
    for (const [index, port] of PORTS.entries()) {
      dataplanes.push(
        new StandaloneTarget(e2e.shell, NODE, `two-paths-${index}`, port + 5500, { asRoot: true }),
      );
      await configure(index);
      dataplane(index).start(IMAGE);
    }
    await e2e.host.prepare();
    for (const index of PORTS.keys()) {
      await serving(index);
      await connect(index);
    }
    const [namespace] = await e2e.host.waitForNamespaces(NQN, [1]);
    const device = namespace?.device ?? '';
    sampler = new IoRateSampler(e2e.shell, e2e.host.guest, device, 600);
    fio = startFio(e2e.shell, e2e.host.guest, { ...FIO, device, runtimeSeconds: 400 });
    await waitForFlow([sampler], FLOW);
  });

  afterAll(async () => {
    await sampler.stop();
    await fio.kill();
    await e2e.host.disconnect(NQN);
    for (const one of dataplanes) await one.stop().catch(() => undefined);
    await mustExec(e2e.shell, NODE, ['losetup', '--detach', ...devices]);
    await mustExec(e2e.shell, NODE, ['rm', '-f', '/var/lib/weir/two-paths.img']);
  });

  /** The longest stall from a moment on, once I/O has gone on for a while. */
  const stallSince = async (sinceMs: number, what: string): Promise<number> => {
    await waitForFlow([sampler], FLOW);
    await sleep(3000);
    const stallMs = longestStall(sampler.samples, sinceMs);
    console.log(`two paths, ${what}: longest stall ${stallMs} ms`);
    return stallMs;
  };

  it('gives up its paths and takes them back, each way without an error and without a stall', async () => {
    for (const [round, index] of [0, 1].entries()) {
      const sinceMs = Date.now();
      await configure(index, { paths: { state: 'Inaccessible' } });
      await said(index, 'Inaccessible', 1);
      expect(await stallSince(sinceMs, `dataplane ${index} gives up its paths`)).toBeLessThan(
        SWITCH_STALL_MS,
      );
      await live(2);
      await configure(index);
      await said(index, 'Accessible', 1);
      await waitForFlow([sampler], FLOW * (round + 1));
    }
  });

  it('is asked to end: hosts go on over the other path, and come back', async () => {
    const sinceMs = Date.now();
    expect(await dataplane(0).stop()).toBe(0);
    expect(await stallSince(sinceMs, 'SIGTERM')).toBeLessThan(SWITCH_STALL_MS);
    dataplane(0).start(IMAGE);
    await serving(0);
    await live(2);
    expect(await fio.stop()).toMatchObject({ ok: true, verifyErrors: 0, ioErrors: 0 });
  });
});
