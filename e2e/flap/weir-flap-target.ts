/** Weir in the lab's cluster under the runner: the example target, as a user applies it. */
import { scrapeTarget } from '../dataplane-metrics.ts';
import { type EndToEnd, NODE } from '../fixture.ts';
import { mustExec } from '../guest-shell.ts';
import { applyTarget, countRestarts, dataplanePods } from '../main-path.ts';
import { waitUntil } from '../wait-until.ts';
import { parseEvents } from './dataplane-log.ts';
import { newestProcess } from './dataplane-process.ts';
import type { FlapTarget } from './flap-target.ts';
import { countOfProcess } from './resources.ts';

/** The example's namespace on a file: its data outlives the dataplane's process. */
const FILE_NSID = 1;
const PROCESS = '^node /opt/weir/bin/weir-dataplane --namespace';
/** Kubelet's longest pause before it starts a container again that ended a few times, and a pod's start. */
const SERVING_TIMEOUT_SECONDS = 300;
/** Enough for the events of one flap, however it went. */
const LOG_LINES = 400;

// The pod's log on its node: nothing has to go through the API server while the node is busy.
const READ_LOG = `
for file in /var/log/pods/"$1"_weir-target-"$2"-*/dataplane/*.log; do
  tail -n "$3" "$file"
done 2>/dev/null | grep '"event"'
true`;

/** The example target, with I/O on its file. */
export function weirFlapTarget({ path, shell, target }: EndToEnd): FlapTarget {
  let podsAtStart: { uid: string; restarts: number }[] = [];
  return {
    name: 'weir',
    nqn: target.nqn,
    address: path.address,
    nsids: target.nsids,
    nsid: FILE_NSID,
    serve: async () => {
      await applyTarget(path);
      // What the status says may be of a process that a scenario before has ended.
      await waitUntil(
        'the dataplane to serve',
        async () => (await scrapeTarget(path, NODE)).sum('weir_target_listener_up', {}) === 1 || undefined,
        { timeoutSeconds: SERVING_TIMEOUT_SECONDS },
      );
      podsAtStart = await dataplanePods(path);
    },
    // It goes on serving: the next scenario finds it as this one left it.
    end: async () => undefined,
    restarts: async () => countRestarts(podsAtStart, await dataplanePods(path)),
    pid: () => newestProcess(shell, PROCESS),
    count: countOfProcess,
    events: async () =>
      parseEvents(
        (
          await mustExec(shell, NODE, [
            ...['sh', '-c', READ_LOG, 'sh', target.namespace, target.name, String(LOG_LINES)],
          ])
        ).split('\n'),
      ),
  };
}
