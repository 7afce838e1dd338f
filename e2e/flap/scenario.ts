/** What a scenario is: a fault that the runner repeats under I/O. */
import type { Lab } from '../../lab/lab.ts';
import type { EndToEnd } from '../fixture.ts';
import type { GuestShell } from '../guest-shell.ts';
import type { Fault } from '../link-flap.ts';
import type { NvmeHost } from '../nvme-host.ts';
import type { LoggedEvent } from './dataplane-log.ts';
import type { FlapTarget } from './flap-target.ts';
import type { FlapRecord, Limits, TargetName } from './report.ts';

/** What a scenario works with. */
export interface ScenarioContext {
  readonly e2e: EndToEnd;
  readonly lab: Lab;
  readonly shell: GuestShell;
  readonly host: NvmeHost;
  readonly target: FlapTarget;
  /** I/Os that finished on the host so far. */
  completed(): number;
  /** What the target's log says since a moment of this machine's clock. */
  eventsSince(sinceMs: number): Promise<LoggedEvent[]>;
  /** Says a line about what goes on. */
  note(line: string): void;
  /** Adds a figure or an observation to the flap that goes on. */
  remark(words: string): void;
  /** Says that the flap that goes on missed what it must reach. */
  miss(words: string): void;
}

/** A scenario. */
export interface Scenario {
  readonly name: string;
  /** One sentence for `--help`: what is done to the target. */
  readonly says: string;
  readonly targets: readonly TargetName[];
  /** The Weir that this scenario needs, if it is not the one in the cluster. */
  readonly weir?: (e2e: EndToEnd) => FlapTarget;
  /** Pause after the fault before the next one, seconds at least; I/O has to flow again in any case. */
  readonly upSeconds: number;
  /** How long I/O is waited for after a fault, if a minute and a half is not enough. */
  readonly recoverySeconds?: number;
  /** What Weir must keep to in a run of so many flaps. */
  limits(flaps: number): Limits;
  /** The fault of one flap; flaps are counted from 1. */
  fault(context: ScenarioContext, flap: number): Fault;
  /** Looks at a flap that is over and began at a moment of this machine's clock. */
  check?(context: ScenarioContext, record: FlapRecord, downAtMs: number): Promise<void>;
  /** After the last flap, before what the target holds is compared with what it held before the first. */
  beforeCounting?(context: ScenarioContext): Promise<void>;
  /** Makes good whatever a fault may have left when the run broke off; harmless otherwise. */
  restore(context: ScenarioContext): Promise<void>;
  /** Counts what the target holds, and its memory, after each flap. */
  readonly countsAfterEach?: boolean;
}

/** What Weir promises for a link that comes back: I/O flows within 2 s of link-up, 5 s where the host was connecting by itself. */
export const LINK_LIMITS: Limits = {
  stallMs: 2000,
  stallConnectInFlightMs: 5000,
  portServingMs: 1000,
  restarts: 0,
};
