import { setTimeout as sleep } from 'node:timers/promises';
import { type EndToEnd, NODE } from '../../fixture.ts';
import { mustExec } from '../../guest-shell.ts';
import { waitUntil } from '../../wait-until.ts';
import type { Scenario } from '../scenario.ts';
import { standaloneFlapTarget } from '../standalone-flap-target.ts';

const MOUNT = '/var/lib/weir/hanging';
const IMAGE_FILE = '/data/hanging.img';
const DRAIN_TIMEOUT_SECONDS = 3;
/** The link is back, the former epoch's I/O still hangs. */
const HANGING_AFTER_UP_SECONDS = 5;
const TIMED_OUT_TIMEOUT_SECONDS = 40;

const MAKE = `set -e
mkdir -p "$2"
truncate -s 192M "$1"
mkfs.ext4 -q -F "$1"
mount -o loop "$1" "$2"`;
const REMOVE = 'umount "$2"; rm -f "$1"; rmdir "$2"';

async function onNode({ shell }: Pick<EndToEnd, 'shell'>, script: string): Promise<void> {
  await mustExec(shell, NODE, ['sh', '-c', script, 'sh', IMAGE_FILE, MOUNT]);
}

/** A file system under the namespace's file does not answer until long after the drain was given up. */
export const backendHang: Scenario = {
  name: 'backend-hang',
  says: `the file system under a namespace is frozen (fsfreeze), the link goes down, the drain (${DRAIN_TIMEOUT_SECONDS} s) times out, the link comes back, the file system thaws`,
  targets: ['weir'],
  weir: (e2e) =>
    standaloneFlapTarget(e2e, {
      file: `${MOUNT}/disk.img`,
      configuration: { link: { drainTimeoutSeconds: DRAIN_TIMEOUT_SECONDS } },
      prepare: () => onNode(e2e, MAKE),
      tidy: () => onNode(e2e, REMOVE),
    }),
  upSeconds: 10,
  // Counted from the thaw: until then the namespace is fenced, whoever is connected.
  limits: () => ({ stallMs: 10_000, stallConnectInFlightMs: 10_000, portServingMs: 1000, restarts: 0 }),
  fault: ({ lab, shell, eventsSince, completed, remark, miss }) => ({
    begin: async () => {
      await mustExec(shell, NODE, ['fsfreeze', '--freeze', MOUNT]);
      // The I/O in flight is with the file system now.
      await sleep(1000);
      await lab.link(NODE, 'down');
    },
    during: async () => {
      const since = Date.now() - 500;
      const drained = await waitUntil(
        'the drain to end',
        async () => (await eventsSince(since)).find(({ event }) => event === 'drainFinished'),
        { timeoutSeconds: TIMED_OUT_TIMEOUT_SECONDS },
      );
      remark(`drain ${drained['result']} after ${drained['durationMs']} ms`);
      if (drained['result'] !== 'timedOut') miss('the drain was over before the I/O that hangs');
      await lab.link(NODE, 'up');
      const before = completed();
      await sleep(HANGING_AFTER_UP_SECONDS * 1000);
      if (completed() > before) miss('I/O finished on a frozen file system');
    },
    end: async () => {
      await mustExec(shell, NODE, ['fsfreeze', '--unfreeze', MOUNT]);
    },
  }),
  restore: async ({ lab, shell }) => {
    await shell.exec(NODE, ['fsfreeze', '--unfreeze', MOUNT]);
    await lab.link(NODE, 'up');
  },
};
