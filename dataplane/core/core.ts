import type { NvmeofTargetNodeSpec } from '../../crds/nvmeof-target-node.ts';
import type { CoreEvent } from './events.ts';
import type { CoreStats } from './stats.ts';

/** Directories that a core works with. */
export interface CoreDirectories {
  /** Where it leaves notes for the next process. */
  readonly stateDirectory?: string | undefined;
  /** Where the keys of hosts are. */
  readonly secretsDirectory?: string | undefined;
}

/** The native core as the rest of the dataplane sees it. Every call returns at once. */
export interface Core {
  /**
   * Hands over the whole desired state. What cannot be served now (a link down, a file that cannot be created)
   * is no error here: it shows in events and {@link Core.stats}.
   *
   * @param generation grows with every state; comes back in `applied` and in the stats.
   * @throws {CoreError} if the state is refused as a whole. The former one is served on.
   */
  apply(generation: number, spec: NvmeofTargetNodeSpec): void;

  /**
   * Starts to leave: hosts are told, I/O in flight finishes, then comes the event `drained`.
   *
   * @throws {CoreError}
   */
  drain(timeoutMilliseconds: number): void;

  /** The core's state and counters at this moment. @throws {CoreError} */
  stats(): CoreStats;

  /** Adds a listener for events; they come on the event loop, in order. */
  onEvent(listener: (event: CoreEvent) => void): void;

  /** Ends the core's threads. Nothing may be called after it. */
  close(): void;
}
