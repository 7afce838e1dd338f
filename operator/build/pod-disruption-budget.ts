/** How many of a target's pods an eviction (`kubectl drain` without ignoring them, the cluster autoscaler) may leave. */
import { childName } from '../../crds/object-names.ts';
import type { AppliedObject } from '../kubernetes/object.ts';
import { childMetadata, selectorLabels, type TargetIdentity } from './child.ts';

/**
 * One pod may be evicted at a time. Said as `minAvailable`: for `maxUnavailable` the disruption controller asks the
 * pods' controller for its scale, a DaemonSet has none, and every eviction would be refused.
 */
export function buildPodDisruptionBudget(target: TargetIdentity, nodeCount: number): AppliedObject {
  return {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: childMetadata(target, childName(target.name)),
    spec: {
      minAvailable: Math.max(0, nodeCount - 1),
      selector: { matchLabels: selectorLabels(target.name) },
      // A pod that is not ready serves nobody: its eviction may be what mends it.
      unhealthyPodEvictionPolicy: 'AlwaysAllow',
    },
  };
}
