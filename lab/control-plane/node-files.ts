import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import type { GuestPlan } from '../guests/plan.ts';
import { PAUSE_IMAGE, pauseImage } from '../images/pause-image.ts';
import type { Progress } from '../progress.ts';
import { goProgram, kubernetesBinaries } from '../setup/binaries.ts';
import { type ApiServerPlan, KUBERNETES_SERVICE_ADDRESS, MACHINE_ADDRESS_IN_GUESTS } from './api-server.ts';
import { writeKubeconfig } from './kubeconfig.ts';

const sourceOf = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const DEVICE_PLUGIN_SOURCE = sourceOf('./build/rdma-device-plugin');
const PAUSE_SOURCE = sourceOf('../guests/pause');

/** Extended resource that lets an unprivileged pod open the node's RDMA devices. */
export const RDMA_RESOURCE = 'rdma/hca_shared_devices_a';

/** Label of nodes with RDMA. */
export const RDMA_NODE_LABEL = 'weir.dev/rdma=true';

/** Variables for `guest.env` of a node that joins the cluster. */
export function nodeEnvironment(apiServer: ApiServerPlan): Record<string, string> {
  return {
    API_SERVER_PORT: String(apiServer.port),
    KUBERNETES_SERVICE_ADDRESS,
    NODE_LABELS: RDMA_NODE_LABEL,
    PAUSE_IMAGE,
  };
}

/** Writes what a node needs to join the cluster into a directory that the guest sees as `/lab/kubernetes`. */
export async function writeNodeFiles(options: {
  directory: string;
  plan: GuestPlan;
  apiServer: ApiServerPlan;
  progress: Progress;
}): Promise<void> {
  const { directory, plan, apiServer, progress } = options;
  const { authority } = apiServer;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const binaries = await kubernetesBinaries(progress, ['kubelet']);
  const devicePlugin = await goProgram(progress, DEVICE_PLUGIN_SOURCE, ['main.go', '../go.sum']);
  const pause = await goProgram(progress, PAUSE_SOURCE, ['main.go', 'go.mod']);
  const files = {
    kubelet: join(binaries, 'kubelet'),
    'rdma-device-plugin': devicePlugin,
    'pause.tar': await pauseImage(pause),
    'ca.crt': authority.certificate,
  };
  for (const [name, path] of Object.entries(files)) {
    copyFileSync(path, join(directory, name));
    chmodSync(join(directory, name), 0o755);
  }
  const client = await authority.issue(`${plan.name}-client`, {
    commonName: `system:node:${plan.name}`,
    organization: 'system:nodes',
  });
  writeKubeconfig({
    path: join(directory, 'kubelet.kubeconfig'),
    server: `https://${MACHINE_ADDRESS_IN_GUESTS}:${apiServer.port}`,
    caCertificate: authority.certificate,
    user: plan.name,
    client,
  });
  const server = await authority.issue(`${plan.name}-server`, {
    commonName: plan.name,
    alternativeNames: [`DNS:${plan.name}`, `IP:${plan.managementAddress}`],
  });
  copyFileSync(server.certificate, join(directory, 'kubelet.crt'));
  copyFileSync(server.key, join(directory, 'kubelet.key'));
  writeFileSync(join(directory, 'kubelet.yaml'), stringify(kubeletConfiguration()));
}

function kubeletConfiguration(): Record<string, unknown> {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    cgroupDriver: 'cgroupfs',
    failSwapOn: false,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: '/lab/kubernetes/ca.crt' },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: '/lab/kubernetes/kubelet.crt',
    tlsPrivateKeyFile: '/lab/kubernetes/kubelet.key',
    // There is no cluster DNS; the user network's name server answers, so that look-ups fail at once.
    clusterDNS: ['10.0.2.3'],
    clusterDomain: 'cluster.local',
    resolvConf: '',
    // Images are loaded, never pulled: one that was collected could not come back.
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    evictionHard: { 'memory.available': '50Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
    // An emulated processor answers late.
    runtimeRequestTimeout: '10m',
    maxPods: 64,
  };
}
