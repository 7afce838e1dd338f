import { join } from 'node:path';
import type { Progress } from '../progress.ts';
import { kubernetesBinaries } from '../setup/binaries.ts';
import { startDaemon, stopDaemon } from '../system/daemon.ts';
import type { ApiServer } from './api-server.ts';
import { writeKubeconfig } from './kubeconfig.ts';

/** The parts of the control plane that act on objects: controller manager and scheduler. */
export const CONTROLLERS = ['kube-controller-manager', 'kube-scheduler'] as const;

/** Starts controller manager and scheduler against an API server. What runs already is kept. */
export async function startControllers(options: {
  dir: string;
  apiServer: ApiServer;
  progress: Progress;
  tiedToParent: boolean;
  /** Further flags of a program. */
  flags?: Readonly<Partial<Record<(typeof CONTROLLERS)[number], readonly string[]>>>;
}): Promise<void> {
  const { dir, apiServer } = options;
  const { authority } = apiServer;
  const binaries = await kubernetesBinaries(options.progress, CONTROLLERS);
  const flags: Record<(typeof CONTROLLERS)[number], string[]> = {
    'kube-controller-manager': [
      ...['--root-ca-file', authority.certificate, '--use-service-account-credentials'],
      ...['--service-account-private-key-file', apiServer.serviceAccountKey],
      ...['--cluster-signing-cert-file', authority.certificate, '--cluster-signing-key-file', authority.key],
    ],
    'kube-scheduler': [],
  };
  for (const name of CONTROLLERS) {
    const kubeconfig = join(dir, `${name}.kubeconfig`);
    writeKubeconfig({
      path: kubeconfig,
      server: apiServer.url,
      caCertificate: authority.certificate,
      user: name,
      client: await authority.issue(name, { commonName: `system:${name}` }),
    });
    startDaemon({
      name,
      directory: dir,
      log: join(dir, `${name}.log`),
      tiedToParent: options.tiedToParent,
      argv: [
        join(binaries, name),
        ...['--kubeconfig', kubeconfig, '--leader-elect=false', '--secure-port=0', '--profiling=false'],
        ...flags[name],
        ...(options.flags?.[name] ?? []),
      ],
    });
  }
}

/** Ends controller manager and scheduler. */
export async function stopControllers(dir: string): Promise<void> {
  for (const name of CONTROLLERS) {
    await stopDaemon(dir, name);
  }
}
