import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { OPERATOR_NAMESPACE } from './deployment.ts';
import { type FioRun, FLOW_UNTIL_VERIFIED, startFio } from './fio.ts';
import { type EndToEnd, NODE, openEndToEnd } from './fixture.ts';
import { mustExec } from './guest-shell.ts';
import { IoRateSampler } from './io-rate.ts';
import { waitForFlow } from './link-flap.ts';
import { applyTarget, connectHost, dataplanePods, deleteTarget } from './main-path.ts';
import type { HostNamespace } from './nvme-host.ts';
import { waitUntil } from './wait-until.ts';

/** The example's namespace on a file: its data outlives the dataplane's process. */
const FILE_NSID = 1;
/** fio is stopped when all has been seen. */
const FIO_LIMIT_SECONDS = 600;
const FLOW = 30;

describe('restarts under verified I/O', () => {
  let e2e: EndToEnd;
  let namespace: HostNamespace;
  let sampler: IoRateSampler;
  let fio: FioRun;

  beforeAll(async () => {
    e2e = await openEndToEnd();
    await applyTarget(e2e.path);
    namespace = await fileNamespace(await connectHost(e2e.path));
  });

  afterAll(async () => {
    await deleteTarget(e2e.path);
  });

  beforeEach(async () => {
    sampler = new IoRateSampler(e2e.shell, e2e.host.guest, namespace.device, FIO_LIMIT_SECONDS);
    fio = startFio(e2e.shell, e2e.host.guest, {
      device: namespace.device,
      runtimeSeconds: FIO_LIMIT_SECONDS,
      blockSizeBytes: 4096,
      ioDepth: 4,
      sizeBytes: 16 << 20,
      mode: 'verify',
    });
    await waitForFlow([sampler], FLOW);
  });

  afterEach(async () => {
    await sampler.stop();
    await fio.kill();
  });

  const fileNamespace = async (all: readonly HostNamespace[]): Promise<HostNamespace> => {
    const found = all.find((one) => one.nsid === FILE_NSID);
    if (found === undefined) throw new Error(`no namespace ${FILE_NSID}`);
    return found;
  };

  const expectNoErrors = async (): Promise<void> => {
    // What was acknowledged around the restart must be read back, too.
    await waitForFlow([sampler], FLOW_UNTIL_VERIFIED);
    expect(await fio.stop()).toMatchObject({ ok: true, verifyErrors: 0, ioErrors: 0 });
  };

  it('goes on after the dataplane was killed: same identifiers, no I/O error', async () => {
    const before = await dataplanePods(e2e.path);
    await mustExec(e2e.shell, NODE, ['pkill', '-9', '-f', '/opt/weir/bin/weir-dataplane']);
    await waitUntil(
      'the dataplane to have restarted',
      async () =>
        (await dataplanePods(e2e.path)).some((pod) => pod.restarts > (before[0]?.restarts ?? 0)) || undefined,
      { timeoutSeconds: 120 },
    );
    await waitForFlow([sampler], FLOW);
    await expectNoErrors();
    const after = await fileNamespace(await e2e.host.namespaces(e2e.target.nqn));
    expect(after.wwid).toBe(namespace.wwid);
  });

  it('goes on while the operator is replaced', async () => {
    await e2e.cluster.kubectl(['delete', 'pod', '-n', OPERATOR_NAMESPACE, '--all', '--wait=false']);
    await waitForFlow([sampler], FLOW);
    await e2e.cluster.kubectl(
      ['rollout', 'status', 'deployment', '-n', OPERATOR_NAMESPACE, '--timeout=180s'],
      { timeoutSeconds: 200 },
    );
    await expectNoErrors();
    await e2e.cluster.waitFor(`nvmeoftarget/${e2e.target.name}`, e2e.target.namespace, 'condition=Ready', 60);
  });

  it('goes on while the API server is away, and follows edits when it is back', async () => {
    const before = await dataplanePods(e2e.path);
    await e2e.lab.stopApiServer();
    await sleep(10_000);
    await waitForFlow([sampler], FLOW);
    await e2e.lab.up({ cluster: true, nodes: 1, hosts: 1 });
    await expectNoErrors();
    await e2e.cluster.kubectl([
      ...['patch', 'nvmeoftarget', e2e.target.name, '-n', e2e.target.namespace, '--type=json'],
      '--patch=[{"op":"add","path":"/spec/namespaces/-","value":{"nsid":5,"backend":{"memory":{"size":"16Mi"}}}}]',
    ]);
    await e2e.host.waitForNamespaces(e2e.target.nqn, [...e2e.target.nsids, 5], 120);
    expect((await dataplanePods(e2e.path)).map((pod) => pod.restarts)).toEqual(
      before.map((pod) => pod.restarts),
    );
  });
});
