/** Replacing pods whose template is outdated: one node at a time, the next only when the last serves again. */
import { TEMPLATE_HASH_ANNOTATION } from '../build/daemon-set.ts';
import { type DataplaneDaemonSet, type DataplanePod, isPodAlive, isPodReady } from './cluster-objects.ts';

/** What is to be done next. */
export type RolloutStep =
  | { readonly kind: 'complete' }
  | { readonly kind: 'wait'; readonly message: string }
  | { readonly kind: 'replace'; readonly pod: DataplanePod; readonly message: string };

function nodeOf(pod: DataplanePod): string {
  return pod.spec.nodeName ?? pod.metadata.name;
}

/** The next step. `isServing` tells whether the node of a pod serves its target in full. */
export function nextRolloutStep(
  daemonSet: DataplaneDaemonSet,
  pods: readonly DataplanePod[],
  isServing: (nodeName: string) => boolean,
): RolloutStep {
  const wanted = daemonSet.spec.template.metadata.annotations[TEMPLATE_HASH_ANNOTATION];
  const alive = pods.filter(isPodAlive);
  const isOutdated = (pod: DataplanePod) => pod.metadata.annotations?.[TEMPLATE_HASH_ANNOTATION] !== wanted;
  const outdated = alive.filter((pod) => isOutdated(pod) && pod.metadata.deletionTimestamp === undefined);
  if (outdated.length === 0) return { kind: 'complete' };

  const leaving = alive.find((pod) => pod.metadata.deletionTimestamp !== undefined);
  if (leaving !== undefined) return { kind: 'wait', message: `draining ${nodeOf(leaving)}` };
  if (daemonSet.status.observedGeneration < (daemonSet.metadata.generation ?? 0)) {
    return { kind: 'wait', message: 'waiting for the DaemonSet controller to see the new template' };
  }
  // A pod that does not serve loses nothing, and the new template may be what mends it.
  const broken = outdated.find((pod) => !isPodReady(pod));
  if (broken !== undefined) {
    return {
      kind: 'replace',
      pod: broken,
      message: `replacing the pod on ${nodeOf(broken)}, which is not ready`,
    };
  }
  if (alive.length < daemonSet.status.desiredNumberScheduled) {
    return { kind: 'wait', message: 'waiting for the replaced pod to be created' };
  }
  const catchingUp = alive.find((pod) => !isOutdated(pod) && !(isPodReady(pod) && isServing(nodeOf(pod))));
  if (catchingUp !== undefined)
    return { kind: 'wait', message: `waiting for ${nodeOf(catchingUp)} to serve again` };
  const [next] = outdated.sort((a, b) => nodeOf(a).localeCompare(nodeOf(b)));
  if (next === undefined) return { kind: 'complete' };
  const message = `replacing the pod on ${nodeOf(next)}, ${outdated.length} of ${alive.length} pods to go`;
  return { kind: 'replace', pod: next, message };
}
