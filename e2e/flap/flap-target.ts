/** What the runner needs of a target, whether it is Weir or the kernel's own. */
import type { TargetAddress } from '../nvme-host.ts';
import type { PhaseChange } from './port-phases.ts';
import type { ResourceCounts, TargetName } from './report.ts';
import type { ResourceListing } from './resources.ts';

/** A target that serves one subsystem on the node's RDMA address. */
export interface FlapTarget {
  readonly name: TargetName;
  readonly nqn: string;
  readonly address: TargetAddress;
  /** All namespaces that the host must see, and the one that I/O runs on. */
  readonly nsids: readonly number[];
  readonly nsid: number;
  /** Begins to serve, if it does not yet, and waits until it does. */
  serve(): Promise<void>;
  /** Stops serving and leaves nothing behind on the node, as far as the next scenario needs. */
  end(): Promise<void>;
  /** Restarts of its process since `serve`. */
  restarts(): Promise<number>;
  /** The process, if it is one and runs. */
  pid(): Promise<number | undefined>;
  /** What of a listing is the target's. */
  count(listing: ResourceListing): ResourceCounts;
  /** What its log says of its port so far, on the node's clock; empty for a target that does not tell. */
  phaseChanges(): Promise<PhaseChange[]>;
}
