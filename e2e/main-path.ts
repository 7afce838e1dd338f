/**
 * The main job, from an applied target to verified I/O under link flaps: what `npm run demo` shows and what the
 * end-to-end tests check. The lab, the image and the chart are in place before.
 */
import { z } from 'zod';
import type { DemoReport } from './demo-report.ts';
import type { ExampleTarget } from './example-target.ts';
import { type FioRun, FLOW_UNTIL_VERIFIED, startFio, whileRunning } from './fio.ts';
import type { GuestShell } from './guest-shell.ts';
import { connectInFlightAt, HostLog } from './host-log.ts';
import { IoRateSampler } from './io-rate.ts';
import type { Cluster } from './kubernetes.ts';
import { flapLink, type SetLink, waitForFlow } from './link-flap.ts';
import type { HostNamespace, NvmeHost, TargetAddress } from './nvme-host.ts';
import type { Steps } from './steps.ts';
import { waitUntil } from './wait-until.ts';

/** What the main path works with. */
export interface MainPath {
  readonly cluster: Cluster;
  readonly shell: GuestShell;
  readonly host: NvmeHost;
  readonly target: ExampleTarget;
  readonly address: TargetAddress;
  readonly setLink: SetLink;
  readonly flaps: number;
  readonly downSeconds: number;
}

const podListSchema = z.object({
  items: z.array(
    z.object({
      metadata: z.object({ name: z.string(), uid: z.string() }),
      status: z.object({
        containerStatuses: z.array(z.object({ restartCount: z.number() })).optional(),
      }),
    }),
  ),
});

/** I/Os that must finish on each namespace before the next outage may begin. */
const FLOW_BETWEEN_FLAPS = 50;
/** fio is stopped when all has been seen; it ends by itself only if something hangs. */
const FIO_LIMIT_SECONDS = 900;
const NAMESPACE_ADDED_LIVE = 9;

/** Applies the target and waits until Kubernetes says that it serves. */
export async function applyTarget({ cluster, target }: MainPath): Promise<void> {
  await cluster.apply(target.manifest);
  await cluster.waitFor(`nvmeoftarget/${target.name}`, target.namespace, 'condition=Ready', 300);
}

/** Discovers, connects, and waits for the namespaces. */
export async function connectHost({ host, target, address }: MainPath): Promise<HostNamespace[]> {
  await host.prepare();
  const log = await host.discover(address);
  if (!log.some((entry) => entry.nqn === target.nqn)) {
    throw new Error(`the discovery log does not show ${target.nqn}: ${JSON.stringify(log)}`);
  }
  await host.connect(address, target.nqn);
  return host.waitForNamespaces(target.nqn, target.nsids);
}

/** Pods of the target and how often their containers restarted. */
export async function dataplanePods({
  cluster,
  target,
}: Pick<MainPath, 'cluster' | 'target'>): Promise<{ uid: string; restarts: number }[]> {
  const list = podListSchema.parse(
    await cluster.get(['pods', '-n', target.namespace, '-l', `weir.dev/target=${target.name}`]),
  );
  return list.items.map((pod) => ({
    uid: pod.metadata.uid,
    restarts: (pod.status.containerStatuses ?? []).reduce((sum, status) => sum + status.restartCount, 0),
  }));
}

/** fio with verification on every namespace while the link flaps; fills the report. */
export async function flapUnderIo(
  path: MainPath,
  namespaces: readonly HostNamespace[],
  steps: Steps,
  report: DemoReport,
): Promise<void> {
  const podsBefore = await dataplanePods(path);
  const samplers = namespaces.map(
    (namespace) => new IoRateSampler(path.shell, path.host.guest, namespace.device, FIO_LIMIT_SECONDS),
  );
  const runs = namespaces.map((namespace) => startVerify(path, namespace));
  const log = new HostLog(path.shell, path.host.guest, FIO_LIMIT_SECONDS);
  try {
    await whileRunning(runs, () => waitForFlow(samplers, FLOW_BETWEEN_FLAPS));
    for (let flap = 1; flap <= path.flaps; flap += 1) {
      const { upAtMs, ...result } = await flapLink(path.setLink, samplers, path.downSeconds);
      steps.note(`outage ${flap} of ${path.flaps}: I/O again ${result.stallAfterUpMs} ms after link-up`);
      await waitForFlow(samplers, FLOW_BETWEEN_FLAPS);
      report.flaps.push({ ...result, hostConnectInFlight: connectInFlightAt(log.lines, upAtMs) });
    }
    // What was acknowledged around the last outage must be read back, too.
    await whileRunning(runs, () => waitForFlow(samplers, FLOW_UNTIL_VERIFIED));
    await collectFio(namespaces, runs, report);
  } finally {
    await Promise.all([log, ...samplers].map((watch) => watch.stop()).concat(runs.map((run) => run.kill())));
  }
  report.dataplaneRestarts = countRestarts(podsBefore, await dataplanePods(path));
}

function startVerify(path: MainPath, namespace: HostNamespace): FioRun {
  return startFio(path.shell, path.host.guest, {
    device: namespace.device,
    runtimeSeconds: FIO_LIMIT_SECONDS,
    blockSizeBytes: 4096,
    ioDepth: 4,
    sizeBytes: 16 << 20,
    mode: 'verify',
  });
}

async function collectFio(
  namespaces: readonly HostNamespace[],
  runs: readonly FioRun[],
  report: DemoReport,
): Promise<void> {
  for (const [index, run] of runs.entries()) {
    const { p99LatencyMicroseconds: _, ...result } = await run.stop();
    report.fio.push({ namespace: String(namespaces[index]?.nsid), ...result });
  }
}

/** Restarts of containers, and pods that are not those of before. */
export function countRestarts(
  before: readonly { uid: string; restarts: number }[],
  after: readonly { uid: string; restarts: number }[],
): number {
  return after.reduce((count, pod) => {
    const known = before.find((old) => old.uid === pod.uid);
    return count + (known === undefined ? 1 : pod.restarts - known.restarts);
  }, 0);
}

/** Adds a namespace to the applied target; the host must see it with no rescan by hand. */
export async function addNamespaceLive(path: MainPath): Promise<void> {
  const patch = [
    {
      op: 'add',
      path: '/spec/namespaces/-',
      value: { nsid: NAMESPACE_ADDED_LIVE, backend: { memory: { size: '16Mi' } } },
    },
  ];
  await path.cluster.kubectl([
    'patch',
    'nvmeoftarget',
    path.target.name,
    '-n',
    path.target.namespace,
    '--type=json',
    `--patch=${JSON.stringify(patch)}`,
  ]);
  await path.host.waitForNamespaces(path.target.nqn, [...path.target.nsids, NAMESPACE_ADDED_LIVE], 90);
}

/** Status follows a host that connects within seconds; until then nobody in the cluster knows of it. */
async function waitForHostInStatus({ cluster, target }: MainPath): Promise<void> {
  const query = ['get', 'nvmeoftarget', target.name, '-n', target.namespace];
  await waitUntil(
    'the status to count the host',
    async () =>
      Number(await cluster.kubectl([...query, '-o', 'jsonpath={.status.connectedHosts}'])) > 0 || undefined,
    { timeoutSeconds: 60 },
  );
}

/** Deletes the target: Protect holds it while the host is connected; it goes when the host has left. */
export async function deleteTarget(path: MainPath): Promise<void> {
  const { cluster, target, host } = path;
  await waitForHostInStatus(path);
  await cluster.kubectl(['delete', 'nvmeoftarget', target.name, '-n', target.namespace, '--wait=false']);
  await waitUntil(
    'the target to say that it waits for its host',
    async () => {
      const text = await cluster.kubectl(['describe', 'nvmeoftarget', target.name, '-n', target.namespace]);
      return text.includes('DeletionBlocked') || undefined;
    },
    { timeoutSeconds: 60 },
  );
  await host.disconnect(target.nqn);
  await waitUntil(
    'the target to be gone',
    async () => {
      const left = await cluster.kubectl([
        'get',
        'nvmeoftarget,nvmeoftargetnode,daemonset,pods',
        '-n',
        target.namespace,
        '-o',
        'name',
      ]);
      return left.trim() === '' || undefined;
    },
    { timeoutSeconds: 180 },
  );
}
