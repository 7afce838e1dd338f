/** What every end-to-end test starts from. The lab, the image and the chart are there: see `lab-setup.ts`. */
import { planGuest } from '../lab/guests/plan.ts';
import { Lab } from '../lab/lab.ts';
import { createTargetNamespace, openCluster } from './deployment.ts';
import { type ExampleTarget, readExampleTarget } from './example-target.ts';
import type { GuestShell } from './guest-shell.ts';
import type { Cluster } from './kubernetes.ts';
import { labShell } from './lab-shell.ts';
import type { MainPath } from './main-path.ts';
import { NvmeHost } from './nvme-host.ts';

/** The node that serves and the host that connects. */
export const NODE = 'node-a';
export const HOST = 'host-a';

/** The image that `lab.buildImage` makes by default. */
export const IMAGE = 'weir.dev/weir:lab';

/** The lab with Weir in it. */
export interface EndToEnd {
  readonly lab: Lab;
  readonly shell: GuestShell;
  readonly cluster: Cluster;
  readonly host: NvmeHost;
  readonly target: ExampleTarget;
  readonly path: MainPath;
}

/** A host of the lab under its own identity. */
export function labHost(shell: GuestShell, guest: string): NvmeHost {
  const plan = planGuest(guest);
  return new NvmeHost(shell, guest, { nqn: plan.hostNqn, id: plan.hostId });
}

/** Opens what runs; brings nothing up. */
export async function openEndToEnd(): Promise<EndToEnd> {
  const lab = Lab.open({ log: (line) => console.log(line) });
  const shell = labShell(lab);
  const cluster = await openCluster(lab);
  const host = labHost(shell, HOST);
  const target = await readExampleTarget();
  await createTargetNamespace(cluster, target.namespace);
  const path: MainPath = {
    cluster,
    shell,
    host,
    target,
    address: { address: planGuest(NODE).rdmaAddress, port: target.port },
    setLink: (state) => lab.link(NODE, state),
    flaps: 5,
    downSeconds: 3,
  };
  return { lab, shell, cluster, host, target, path };
}
