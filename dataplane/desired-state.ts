import type { NvmeofTargetNodeSpec } from '../crds/nvmeof-target-node.ts';

/** What is to be served, from a file or from the cluster. */
export interface DesiredState {
  /** Grows with every change: `metadata.generation`, or a count of reloads. */
  generation: number;
  spec: NvmeofTargetNodeSpec;
}
