import type { Logger } from 'pino';
import type { Silence } from '../crds/silent-status.ts';
import type { Core } from './core/core.ts';
import type { Dataplane } from './dataplane.ts';

/** Where desired states come from: a file, or an object of the cluster. Ready to begin. */
export interface Source {
  /** Whom metrics and logs name before a desired state is there. Type: labels of both. */
  readonly identity: { target: string; node: string };
  /** Applies the first state, now or when it comes, and follows changes. @throws if it cannot begin. */
  start(dataplane: Dataplane, core: Core, logger: Logger): FollowedSource;
}

/** A source that is followed. */
export interface FollowedSource {
  /** Follows changes no more. The first step of leaving. */
  stop(): void;
  /** Says the last word: that nothing is served here any more, and why. The last step, after the drain. */
  finish(farewell: Silence): Promise<void>;
}
