/** What the runner needs of a target, whether it is Weir or the kernel's own. */
import type { TargetAddress } from '../nvme-host.ts';
import type { LoggedEvent } from './dataplane-log.ts';
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
  /** The newest events of its log, on the node's clock; empty for a target that does not tell. */
  events(): Promise<LoggedEvent[]>;
}
