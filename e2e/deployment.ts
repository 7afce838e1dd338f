/** Weir in the lab: the image in the nodes, the chart in the cluster, as `helm install` does it. */
import { fileURLToPath } from 'node:url';
import { RDMA_RESOURCE } from '../lab/control-plane/node-files.ts';
import type { Lab } from '../lab/lab.ts';
import { Cluster } from './kubernetes.ts';

/** Namespace of the operator. */
export const OPERATOR_NAMESPACE = 'weir-system';

const CHART = fileURLToPath(new URL('../helm/weir', import.meta.url));
/** An emulated node starts a pod in half a minute when it has nothing else to do. */
const INSTALL_TIMEOUT_SECONDS = 300;

/** The lab's cluster for kubectl and helm. */
export async function openCluster(lab: Lab): Promise<Cluster> {
  return new Cluster(await lab.tools());
}

/** Builds the image from the repository and brings it to the nodes; its name for pods. */
export async function provideImage(lab: Lab): Promise<string> {
  const layout = await lab.buildImage();
  await lab.loadImage(layout);
  return layout.image;
}

/** Installs or upgrades the chart and waits until the operator serves. */
export async function installChart(cluster: Cluster, image: string): Promise<void> {
  const colon = image.lastIndexOf(':');
  const values = {
    'image.repository': image.slice(0, colon),
    'image.tag': image.slice(colon + 1),
    // The image is on the nodes already, and there is no registry to ask.
    'image.pullPolicy': 'Never',
    // One node.
    'operator.replicas': '1',
    'dataplane.deviceResource': RDMA_RESOURCE,
  };
  await cluster.helm(
    [
      ...['upgrade', '--install', 'weir', CHART, '--namespace', OPERATOR_NAMESPACE, '--create-namespace'],
      ...['--wait', `--timeout=${INSTALL_TIMEOUT_SECONDS}s`],
      ...Object.entries(values).map(([key, value]) => `--set=${key}=${value}`),
    ],
    { timeoutSeconds: INSTALL_TIMEOUT_SECONDS + 30 },
  );
}

/** `helm test`: what helm said. Fails when a check did; the pod with its log is then left. */
export function testInstallation(cluster: Cluster): Promise<string> {
  return cluster.helm(
    ['test', 'weir', '--namespace', OPERATOR_NAMESPACE, `--timeout=${INSTALL_TIMEOUT_SECONDS}s`],
    { timeoutSeconds: INSTALL_TIMEOUT_SECONDS + 30 },
  );
}

/** Ends every pod of these namespaces; what made them makes new ones, of the image as it is now. */
export async function restartPods(cluster: Cluster, namespaces: readonly string[]): Promise<void> {
  for (const namespace of namespaces) {
    await cluster.kubectl(['delete', 'pods', '--all', '--namespace', namespace, '--wait=true'], {
      timeoutSeconds: INSTALL_TIMEOUT_SECONDS,
    });
  }
}

/** The namespace that targets live in. Their pods mount the node's directories, which `restricted` refuses. */
export async function createTargetNamespace(cluster: Cluster, name: string): Promise<void> {
  await cluster.apply(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, labels: { 'pod-security.kubernetes.io/enforce': 'privileged' } },
    }),
  );
}
