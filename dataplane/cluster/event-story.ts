/**
 * What a person should see at an object of what the core reports. A flap or two are told one by one; a link that goes
 * on flapping is told once, counted, and told again when it is over.
 */
import type { CoreEvent, KnownCoreEvent } from '../core/events.ts';

/** Something that a person should see at the object. */
export interface Report {
  type: 'Normal' | 'Warning';
  /** CamelCase. */
  reason: string;
  /** What it is about: with the reason it tells repetitions from news. */
  subject: string;
  note: string;
  /** What was done; CamelCase. */
  action: string;
}

/** A link flaps when it goes down so many times… */
const flappingDowns = 3;

/** …within this time. The alert WeirLinkFlapping has the same numbers. */
const flappingWindowMilliseconds = 10 * 60 * 1000;

/** A flapping link is stable again when it has been up for this long. */
const stableMilliseconds = 5 * 60 * 1000;

/** A flapping link that does not come back within this time has gone down for good. */
const staysDownMilliseconds = 60 * 1000;

/** What is known of one listener's past. */
interface Past {
  /** When the link went down, the last few times. */
  downs: number[];
  netdev: string;
  isUp: boolean;
  changedAtMs: number;
  /** Set while the link flaps. */
  flapping: { sinceMs: number; downs: number } | undefined;
  /** Why the drain that goes on began. */
  drainCause: string;
  /** The last attempt to register memory brought less than all. */
  lacksMemory: boolean;
}

type EventOf<T extends KnownCoreEvent['type']> = Extract<KnownCoreEvent, { type: T }>;

/** See the head of this file. Pure but for what it remembers; the time is an argument. */
export class EventStory {
  readonly #pasts = new Map<string, Past>();

  /** What an event of the core is worth telling. */
  tell({ known, level }: CoreEvent, nowMs: number): Report[] {
    switch (known?.type) {
      case 'linkState':
        return this.#linkChanged(known, nowMs);
      case 'portPhase':
        return this.#phaseChanged(known, nowMs);
      case 'drainFinished':
        return this.#drained(known, nowMs);
      case 'pathsChanged':
        return pathsReports(known);
      case 'memoryRegistration':
        return this.#memoryRegistered(known, nowMs);
      case 'namespaceState':
        // One that is served as it was, although something else was asked for, is an error too.
        return level === 'error' ? [namespaceReport(known)] : [];
      case 'deviceFatal': {
        const note = `RDMA device ${known.device}: ${known.message}`;
        return [{ type: 'Warning', reason: 'DeviceFatal', subject: known.device, note, action: 'Serve' }];
      }
      case 'queuePairQuarantined': {
        const { listener, source, queueId, message } = known;
        const note = `listener ${listener}: queue ${queueId} of ${source}: ${message}`;
        return [
          { type: 'Warning', reason: 'QueuePairQuarantined', subject: listener, note, action: 'Drain' },
        ];
      }
      case 'softDeviceRecreation': {
        const note = `RDMA device ${known.device} on ${known.netdev}: re-creation ${known.result}: ${known.message}`;
        const type = known.result === 'succeeded' ? 'Normal' : 'Warning';
        return [{ type, reason: 'SoftDeviceRecreation', subject: known.device, note, action: 'Recreate' }];
      }
      case 'applyProblem': {
        const reason = known.reason === '' ? 'ApplyProblem' : known.reason;
        const note = `${known.field}: ${known.message}`;
        return [{ type: 'Warning', reason, subject: known.field, note, action: 'Apply' }];
      }
      default:
        return [];
    }
  }

  /** What only time tells: that a link no longer flaps. Called every few seconds. */
  tick(nowMs: number): Report[] {
    return [...this.#pasts].flatMap(([listener, past]) => {
      const { flapping, netdev, isUp, changedAtMs } = past;
      if (flapping === undefined) return [];
      const quiet = nowMs - changedAtMs;
      if (quiet < (isUp ? stableMilliseconds : staysDownMilliseconds)) return [];
      past.flapping = undefined;
      past.downs = [];
      const story = `it went down ${flapping.downs} times from ${clock(flapping.sinceMs)} to ${clock(changedAtMs)}`;
      return [
        isUp
          ? linkReport('Normal', 'LinkStable', listener, `link ${netdev} is stable again: ${story}`)
          : linkReport(
              'Warning',
              'LinkStaysDown',
              listener,
              `link ${netdev} flapped and now stays down: ${story}`,
            ),
      ];
    });
  }

  #linkChanged({ listener, netdev, up }: EventOf<'linkState'>, nowMs: number): Report[] {
    const past = this.#pastOf(listener, nowMs);
    Object.assign(past, { netdev, isUp: up, changedAtMs: nowMs });
    if (!up) {
      past.downs = [...past.downs, nowMs]
        .filter((at) => nowMs - at <= flappingWindowMilliseconds)
        .slice(-flappingDowns);
      if (past.flapping !== undefined) past.flapping.downs += 1;
      else if (past.downs.length >= flappingDowns) {
        past.flapping = { sinceMs: past.downs[0] ?? nowMs, downs: past.downs.length };
      }
    }
    if (past.flapping === undefined) {
      const reason = up ? 'LinkUp' : 'LinkDown';
      const note = `link ${netdev} is ${up ? 'up' : 'down'}`;
      return [linkReport(up ? 'Normal' : 'Warning', reason, listener, note)];
    }
    // Each time that it goes down counts once: as LinkDown or here.
    const note = `link ${netdev} flaps: it went down ${flappingDowns} times within ten minutes; from now on it is counted here and not told one by one`;
    return up ? [] : [linkReport('Warning', 'LinkFlapping', listener, note)];
  }

  #phaseChanged({ listener, to, reason, message, address }: EventOf<'portPhase'>, nowMs: number): Report[] {
    const past = this.#pastOf(listener, nowMs);
    const why = message === '' ? reason : message;
    const because = why === '' ? '' : `: ${why}`;
    if (to === 'Draining') past.drainCause = why;
    const at = address == null ? '' : ` at ${address}`;
    const note = `listener ${listener} is ${to}${at}${because}`;
    // The same phase for another reason is no repetition.
    const subject = `${listener}/${reason}`;
    switch (to) {
      case 'Serving':
        if (past.flapping !== undefined) return [];
        return [{ type: 'Normal', reason: 'ListenerServing', subject, note, action: 'Serve' }];
      case 'Degraded':
        return [{ type: 'Warning', reason: 'ListenerDegraded', subject, note, action: 'Serve' }];
      case 'Quarantined':
        return [{ type: 'Warning', reason: 'ListenerQuarantined', subject, note, action: 'Drain' }];
      case 'Failed':
        return [{ type: 'Warning', reason: 'ListenerFailed', subject, note, action: 'Serve' }];
      default:
        return [];
    }
  }

  #drained({ listener, result, durationMs, queuePairs }: EventOf<'drainFinished'>, nowMs: number): Report[] {
    const past = this.#pastOf(listener, nowMs);
    const cause = past.drainCause === '' ? '' : ` because ${past.drainCause}`;
    if (result === 'timedOut') {
      const note = `listener ${listener}: a drain${cause} was not done after ${durationMs} ms; what is still in flight keeps its buffers in quarantine until it ends: look at the storage behind the namespaces`;
      return [{ type: 'Warning', reason: 'DrainTimedOut', subject: listener, note, action: 'Drain' }];
    }
    if (past.flapping !== undefined) return [];
    const note = `listener ${listener}: ${queuePairs} queue pairs drained in ${durationMs} ms${cause}`;
    return [{ type: 'Normal', reason: 'DrainCompleted', subject: listener, note, action: 'Drain' }];
  }

  #memoryRegistered({ listener, result, message }: EventOf<'memoryRegistration'>, nowMs: number): Report[] {
    const past = this.#pastOf(listener, nowMs);
    const isComplete = result === 'succeeded';
    const wasLacking = past.lacksMemory;
    past.lacksMemory = !isComplete;
    // Every epoch registers its memory; that it worked is news only after it had not.
    if (isComplete && !wasLacking) return [];
    return [
      {
        type: isComplete ? 'Normal' : 'Warning',
        reason: isComplete ? 'MemoryRegistered' : 'MemoryRegistrationFailed',
        subject: listener,
        note: `listener ${listener}: ${message}`,
        action: 'RegisterMemory',
      },
    ];
  }

  #pastOf(listener: string, nowMs: number): Past {
    const known = this.#pasts.get(listener);
    if (known !== undefined) return known;
    const past: Past = {
      downs: [],
      netdev: '',
      isUp: false,
      changedAtMs: nowMs,
      flapping: undefined,
      drainCause: '',
      lacksMemory: false,
    };
    this.#pasts.set(listener, past);
    return past;
  }
}

const pathNotes: Readonly<Record<string, string>> = {
  Accessible: 'hosts may use the paths through this node again',
  Leaving: 'hosts are told to leave the paths through this node (ANA inaccessible)',
  Inaccessible: 'every host that can be reached knows that these paths are inaccessible; no I/O is in flight',
};

function pathsReports({ to }: EventOf<'pathsChanged'>): Report[] {
  const note = pathNotes[to];
  if (note === undefined) return [];
  return [{ type: 'Normal', reason: `Paths${to}`, subject: to, note, action: 'Drain' }];
}

function linkReport(type: Report['type'], reason: string, listener: string, text: string): Report {
  return { type, reason, subject: listener, note: `listener ${listener}: ${text}`, action: 'Watch' };
}

function namespaceReport({ state, subsystem, nsid, message, reason }: EventOf<'namespaceState'>): Report {
  return {
    type: 'Warning',
    reason: state === 'Failed' ? 'NamespaceFailed' : 'NamespaceUnchanged',
    subject: `${subsystem}/${nsid}`,
    note: `namespace ${nsid} of ${subsystem}: ${message || reason}`,
    action: 'OpenNamespace',
  };
}

/** Time of day, UTC, to the second. */
function clock(timeMs: number): string {
  return `${new Date(timeMs).toISOString().slice(11, 19)}Z`;
}
