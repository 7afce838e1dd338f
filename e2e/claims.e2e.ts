import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { API_VERSION, TARGET_KIND } from '../crds/api-group.ts';
import { startFio } from './fio.ts';
import { type EndToEnd, HOST, NODE, openEndToEnd } from './fixture.ts';
import { mustExec } from './guest-shell.ts';
import { IoRateSampler } from './io-rate.ts';
import { waitForFlow } from './link-flap.ts';
import { LocalDisk, localClaimManifest, makeVolumeDirectory, volumeName } from './local-volumes.ts';
import { applyTarget, connectHost, dataplanePods, deleteTarget, type MainPath } from './main-path.ts';
import type { HostNamespace } from './nvme-host.ts';
import { waitUntil } from './wait-until.ts';

const MEBIBYTE = 2 ** 20;
const DISK_BYTES = 64 * MEBIBYTE;
const GROWN_DISK_BYTES = 128 * MEBIBYTE;
const FILE_BYTES = 32 * MEBIBYTE;
const GROWN_FILE_BYTES = 96 * MEBIBYTE;

/** Ends with the test; longer than that takes on any machine. */
const FIO_SECONDS = 600;
const FLOW_BEFORE_AND_AFTER = 50;

const quantity = (bytes: number) => `${bytes / MEBIBYTE}Mi`;

const nodeSchema = z.object({
  status: z.object({
    hosts: z.array(z.object({ controllerID: z.number(), connectedSince: z.string() })),
    namespaces: z.array(z.object({ nsid: z.number(), sizeBytes: z.number() })),
  }),
});

const podsSchema = z.object({
  items: z.array(
    z.object({
      spec: z.object({
        containers: z.array(
          z.object({
            securityContext: z.object({ privileged: z.boolean() }),
            volumeDevices: z.array(z.object({ devicePath: z.string() })),
          }),
        ),
      }),
    }),
  ),
});

/** One target on a disk and on a file, both of claims. */
function targetOnClaims({ target, host }: EndToEnd): MainPath['target'] {
  const nqn = 'nqn.2026-11.dev.weir:claims';
  const name = 'claims';
  const claim = (nsid: number, persistentVolumeClaim: object) => ({
    nsid,
    backend: { persistentVolumeClaim },
  });
  const manifest = {
    apiVersion: API_VERSION,
    kind: TARGET_KIND,
    metadata: { name, namespace: target.namespace },
    spec: {
      nqn,
      nodeSelector: { 'kubernetes.io/hostname': NODE },
      listeners: [{ name: 'storage', addressFrom: { cidr: '10.9.0.0/24' }, port: target.port }],
      access: { hosts: [{ nqn: host.identity.nqn }] },
      namespaces: [
        claim(1, { claimName: 'disk' }),
        claim(2, { claimName: 'files', file: { size: quantity(FILE_BYTES) } }),
      ],
    },
  };
  return { ...target, manifest: JSON.stringify(manifest), name, nqn, nsids: [1, 2] };
}

describe('PersistentVolumeClaims', () => {
  let e2e: EndToEnd;
  let path: MainPath;
  let disk: LocalDisk;
  let namespaces: HostNamespace[];

  const patch = (resource: string, change: object, ...more: string[]) =>
    path.cluster.kubectl([
      ...[
        'patch',
        resource,
        '-n',
        path.target.namespace,
        '--type=merge',
        `--patch=${JSON.stringify(change)}`,
      ],
      ...more,
    ]);
  const nodeStatus = async () => {
    const query = ['nvmeoftargetnode', `${path.target.name}-${NODE}`, '-n', path.target.namespace];
    return nodeSchema.parse(await path.cluster.get(query)).status;
  };
  /** Known to the status seconds after the host has connected. */
  const connections = () =>
    waitUntil(
      'the status to name the host',
      async () => {
        const { hosts } = await nodeStatus();
        return hosts.length > 0 ? hosts : undefined;
      },
      { timeoutSeconds: 60 },
    );
  const hostSees = (nsid: number, sizeBytes: number) =>
    waitUntil(
      `namespace ${nsid} to have ${sizeBytes} bytes on the host`,
      async () =>
        (await path.host.namespaces(path.target.nqn)).some(
          (namespace) => namespace.nsid === nsid && namespace.sizeBytes === sizeBytes,
        ) || undefined,
      { timeoutSeconds: 60 },
    );

  beforeAll(async () => {
    e2e = await openEndToEnd();
    path = { ...e2e.path, target: targetOnClaims(e2e) };
    const { namespace } = path.target;
    disk = await LocalDisk.attach(e2e.shell, NODE, 'disk', DISK_BYTES);
    const directory = await makeVolumeDirectory(e2e.shell, NODE, 'files');
    const shared = { namespace, node: NODE, capacity: quantity(DISK_BYTES) };
    for (const claim of [
      { ...shared, name: 'disk', path: disk.device, volumeMode: 'Block' as const },
      { ...shared, name: 'files', path: directory, volumeMode: 'Filesystem' as const },
    ]) {
      await path.cluster.apply(localClaimManifest(claim));
    }
  });

  afterAll(async () => {
    await deleteTarget(path);
    const { namespace } = path.target;
    await path.cluster.kubectl(['delete', 'pvc', 'disk', 'files', '-n', namespace]);
    const volumes = ['disk', 'files'].map((name) => volumeName({ namespace, name }));
    await path.cluster.kubectl(['delete', 'pv', ...volumes]);
    await disk.remove();
  });

  it('are served by a pod without privileges, a device as a whole and a file in its size', async () => {
    await applyTarget(path);
    namespaces = await connectHost(path);
    expect(namespaces.map(({ sizeBytes }) => sizeBytes)).toEqual([DISK_BYTES, FILE_BYTES]);
    const query = ['pods', '-n', path.target.namespace, '-l', `weir.dev/target=${path.target.name}`];
    const [pod] = podsSchema.parse(await path.cluster.get(query)).items;
    expect(pod?.spec.containers).toMatchObject([
      { securityContext: { privileged: false }, volumeDevices: [{ devicePath: '/dev/weir/disk' }] },
    ]);
  });

  it('grow under verified I/O, and the host sees it at once, without a new connection', async () => {
    const before = { pods: await dataplanePods(path), hosts: await connections() };
    const samplers = namespaces.map(({ device }) => new IoRateSampler(path.shell, HOST, device, FIO_SECONDS));
    const runs = namespaces.map(({ device }) =>
      startFio(path.shell, HOST, {
        device,
        runtimeSeconds: FIO_SECONDS,
        blockSizeBytes: 4096,
        ioDepth: 4,
        sizeBytes: 16 * MEBIBYTE,
        mode: 'verify',
      }),
    );
    try {
      await waitForFlow(samplers, FLOW_BEFORE_AND_AFTER);
      // The disk itself is enough: nobody tells Weir.
      await disk.grow(GROWN_DISK_BYTES);
      await hostSees(1, GROWN_DISK_BYTES);
      // What a storage system reports when a claim has grown; the file on it grows when the target says so.
      const capacity = { storage: quantity(GROWN_DISK_BYTES) };
      await patch('pvc/files', { status: { capacity } }, '--subresource=status');
      const file = (size: number) => ({ claimName: 'files', file: { size: quantity(size) } });
      await patch(`nvmeoftarget/${path.target.name}`, {
        spec: {
          namespaces: [
            { nsid: 1, backend: { persistentVolumeClaim: { claimName: 'disk' } } },
            { nsid: 2, backend: { persistentVolumeClaim: file(GROWN_FILE_BYTES) } },
          ],
        },
      });
      await hostSees(2, GROWN_FILE_BYTES);
      await waitForFlow(samplers, FLOW_BEFORE_AND_AFTER);
      const results = await Promise.all(runs.map((run) => run.stop()));
      expect(results).toMatchObject(namespaces.map(() => ({ ok: true, verifyErrors: 0, ioErrors: 0 })));
    } finally {
      await Promise.all([...samplers.map((sampler) => sampler.stop()), ...runs.map((run) => run.kill())]);
    }
    expect(await connections()).toEqual(before.hosts);
    expect(await dataplanePods(path)).toEqual(before.pods);
  });

  it('take data where they have grown, and say their size in the status', async () => {
    const lastBlock = { 1: GROWN_DISK_BYTES / 4096 - 1, 2: GROWN_FILE_BYTES / 4096 - 1 };
    for (const { nsid, device } of namespaces) {
      const seek = lastBlock[nsid as keyof typeof lastBlock];
      const script = `head -c 4096 /dev/urandom >/tmp/block && dd if=/tmp/block of=/dev/${device} bs=4096 seek=${seek} count=1 oflag=direct && dd if=/dev/${device} bs=4096 skip=${seek} count=1 iflag=direct | cmp - /tmp/block`;
      await mustExec(path.shell, HOST, ['sh', '-c', script]);
    }
    const sizes = await waitUntil(
      'the status to tell the sizes',
      async () => {
        const found = (await nodeStatus()).namespaces.map(({ nsid, sizeBytes }) => [nsid, sizeBytes]);
        return found.some(([, size]) => size === GROWN_FILE_BYTES) ? found : undefined;
      },
      { timeoutSeconds: 60 },
    );
    expect(sizes).toEqual([
      [1, GROWN_DISK_BYTES],
      [2, GROWN_FILE_BYTES],
    ]);
  });
});
