import type { DataplanePod } from './cluster-objects.ts';
import type { StoredTargetNode } from './nvmeof-target.ts';
import type { NodeReport } from './roll-up.ts';

/** A node of a target with everything that decides how its pod and its paths are handled. */
export interface HandledNode {
  readonly nodeName: string;
  readonly report: NodeReport;
  /** Its NvmeofTargetNode, if there is one yet. */
  readonly object: StoredTargetNode | undefined;
  /** Its pod that may be running; one that leaves only when there is no other. */
  readonly pod: DataplanePod | undefined;
  /** `kubectl cordon`, or the beginning of `kubectl drain`. */
  readonly isCordoned: boolean;
}
