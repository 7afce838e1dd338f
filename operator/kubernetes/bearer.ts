/** The same cluster, seen by whoever holds a token. */
import { KubeConfig } from '@kubernetes/client-node';

/** A kubeconfig with the current cluster of another and a bearer token as its only credential. */
export function withBearerToken(config: KubeConfig, token: string): KubeConfig {
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new Error('the kubeconfig names no current cluster');
  const bearer = new KubeConfig();
  bearer.loadFromOptions({
    clusters: [cluster],
    users: [{ name: 'bearer', token }],
    contexts: [{ name: 'bearer', cluster: cluster.name, user: 'bearer' }],
    currentContext: 'bearer',
  });
  return bearer;
}
