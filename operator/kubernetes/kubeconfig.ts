import type { KubeConfig } from '@kubernetes/client-node';

/** What client-node falls back to when it finds neither a pod's credentials nor a kubeconfig. */
const NOWHERE = 'http://localhost:8080';

/** Whether a configuration names a cluster at all. */
export function namesCluster(config: KubeConfig): boolean {
  const server = config.getCurrentCluster()?.server;
  return server !== undefined && server !== NOWHERE;
}
