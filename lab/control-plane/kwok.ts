import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Progress } from '../progress.ts';
import { goProgram } from '../setup/binaries.ts';
import { startDaemon, stopDaemon } from '../system/daemon.ts';

const MODULE = fileURLToPath(new URL('./kwok/', import.meta.url));

/** Renewed four times as often; a thousand nodes then cost the API server twenty writes a second. */
const LEASE_SECONDS = 200;

/** Starts kwok: every node becomes ready, and every pod that is bound to one runs and is ready, without a kubelet. */
export async function startKwok(options: {
  dir: string;
  kubeconfig: string;
  progress: Progress;
}): Promise<void> {
  const { dir, kubeconfig, progress } = options;
  const program = await goProgram(progress, MODULE, ['go.mod', 'go.sum'], 'sigs.k8s.io/kwok/cmd/kwok');
  startDaemon({
    name: 'kwok',
    directory: dir,
    log: join(dir, 'kwok.log'),
    tiedToParent: true,
    argv: [
      program,
      ...['--kubeconfig', kubeconfig, '--manage-all-nodes', '--config', join(MODULE, 'stages.yaml')],
      ...['--node-lease-duration-seconds', String(LEASE_SECONDS)],
    ],
  });
}

/** Ends kwok. */
export async function stopKwok(dir: string): Promise<void> {
  await stopDaemon(dir, 'kwok');
}
