/** The dataplane's process in the lab's cluster: found, ended, and what it ended with. */
import { z } from 'zod';
import { type EndToEnd, NODE } from '../fixture.ts';
import type { GuestShell } from '../guest-shell.ts';
import { waitUntil } from '../wait-until.ts';

const podListSchema = z.object({
  items: z.array(
    z.object({
      metadata: z.object({ name: z.string() }),
      status: z.object({
        containerStatuses: z
          .array(
            z.object({
              lastState: z.object({ terminated: z.object({ exitCode: z.number() }).optional() }),
            }),
          )
          .optional(),
      }),
    }),
  ),
});

/** Process id of the newest process on the node whose command line matches. */
export async function newestProcess(shell: GuestShell, pattern: string): Promise<number | undefined> {
  const { stdout } = await shell.exec(NODE, ['pgrep', '--newest', '--full', pattern]);
  const pid = Number.parseInt(stdout, 10);
  return Number.isNaN(pid) ? undefined : pid;
}

/** Waits for a process other than `former`; its id. */
export async function waitForOtherProcess(
  find: () => Promise<number | undefined>,
  former: number | undefined,
  timeoutSeconds: number,
): Promise<number> {
  return waitUntil(
    'a fresh process of the dataplane',
    async () => {
      const pid = await find();
      return pid === former ? undefined : pid;
    },
    { timeoutSeconds },
  );
}

/** The target's pod by its name, and what its container ended with last, if it did. */
export async function dataplanePod({
  cluster,
  target,
}: Pick<EndToEnd, 'cluster' | 'target'>): Promise<{ name: string; lastExitCode: number | undefined }> {
  const { items } = podListSchema.parse(
    await cluster.get(['pods', '-n', target.namespace, '-l', `weir.dev/target=${target.name}`]),
  );
  const [pod] = items;
  if (pod === undefined) throw new Error(`${target.name} has no pod`);
  return {
    name: pod.metadata.name,
    lastExitCode: pod.status.containerStatuses?.[0]?.lastState.terminated?.exitCode,
  };
}
