import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Progress } from '../progress.ts';
import { startDaemon, stopDaemon } from '../system/daemon.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { CONTROLLERS, startControllers, stopControllers } from './controllers.ts';

const EGRESS_PROXY = fileURLToPath(new URL('./egress-proxy.ts', import.meta.url));

/** Names of the control plane's processes. */
export const CONTROL_PLANE = ['etcd', 'egress-proxy', 'kube-apiserver', ...CONTROLLERS] as const;

/** Where the control plane keeps everything, and where the guests are. */
export interface ClusterDirectories {
  directory: string;
  guests: string;
}

/** Starts the whole control plane and waits for the API server. What runs already is kept. */
export async function startControlPlane(where: ClusterDirectories, progress: Progress): Promise<ApiServer> {
  const { directory } = where;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const egressProxySocket = join(directory, 'egress.sock');
  startDaemon({
    name: 'egress-proxy',
    directory,
    log: join(directory, 'egress-proxy.log'),
    argv: [
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      EGRESS_PROXY,
      egressProxySocket,
      where.guests,
    ],
  });
  const apiServer = await startApiServer({
    dir: directory,
    tiedToParent: false,
    egressProxySocket,
    progress,
  });
  await startControllers({ dir: directory, apiServer, progress, tiedToParent: false });
  return apiServer;
}

/** Ends the whole control plane. */
export async function stopControlPlane(directory: string): Promise<void> {
  await stopControllers(directory);
  await stopDaemon(directory, 'kube-apiserver');
  await Promise.all([stopDaemon(directory, 'etcd'), stopDaemon(directory, 'egress-proxy')]);
}
