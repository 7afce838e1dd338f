/** The conditions of an NvmeofTargetNode: verdicts on what the core tells, with reasons for programs and words for people. */
import type { Condition } from '../../crds/condition.ts';
import type { NODE_CONDITIONS } from '../../crds/condition-reasons.ts';
import type { CoreStats, ListenerStats, NamespaceStats } from '../core/stats.ts';
import { isDeviceHealthy } from '../device-health.ts';
import { isServing } from '../health.ts';

/** Types of the conditions of an NvmeofTargetNode. */
export type ConditionType = keyof typeof NODE_CONDITIONS;

/** A condition before it has a time. */
export type Verdict = Pick<Condition, 'status' | 'reason' | 'message'>;

/** Why the desired state is not, or not wholly, what is served. */
export interface Refusal {
  /** One CamelCase word. */
  reason: string;
  /** Names the field and what to change. */
  message: string;
}

/** What the conditions are judged by. */
export interface ConditionInput {
  stats: CoreStats;
  /** Set when the state as it is now was refused; the former one is served. */
  refusal: Refusal | undefined;
  /** Name of the node, for messages that say where to look. */
  node: string;
}

/** What is wrong with one listener or namespace. */
interface Fault {
  reason: string;
  message: string;
}

/** Reasons of the core that name an occasion; the condition's reason is the cause behind it. */
const causes: Readonly<Record<string, string>> = { HoldTimeOver: 'LinkDown' };

/** What a port says before it has looked at its link. */
const startingReason = 'Starting';

/** Reasons that say why a listener has no usable link other than that the link is down. */
const pathReasons: ReadonlySet<string> = new Set([
  'AddressChanged',
  'AddressNotFound',
  'DeviceNotFound',
  'DeviceRemoved',
  'InterfaceNotFound',
  'NoRdmaDevice',
  'RdmaUnavailable',
]);

const unknown: Verdict = {
  status: 'Unknown',
  reason: startingReason,
  message: 'no desired state is served yet',
};

/** Judges every condition. */
export function judgeConditions({ stats, refusal, node }: ConditionInput): Record<ConditionType, Verdict> {
  const accepted: Verdict =
    refusal === undefined
      ? allRight(
          [
            ...stats.namespaces.filter(servesFormerState).map(aboutNamespace),
            ...stats.authenticationProblems.map(aboutKey),
          ],
          { reason: 'Accepted', message: 'the desired state is served as far as can be' },
        )
      : { status: 'False', ...refusal };
  if (stats.generation === 0) {
    return {
      Accepted: accepted,
      ListenersReady: unknown,
      LinksUp: unknown,
      DeviceHealthy: unknown,
      NamespacesReady: unknown,
      Degraded: unknown,
      Ready: readiness(stats, accepted, []),
    };
  }
  const { listeners } = stats;
  const listenersReady = allRight(listeners.filter(({ phase }) => !isServing(phase)).map(aboutListener), {
    reason: 'Serving',
    message: 'every listener serves',
  });
  const linksUp = judgeLinks(listeners, node);
  const deviceHealthy = allRight(
    listeners.filter((listener) => !isDeviceHealthy(listener)).map((listener) => aboutDevice(listener, node)),
    { reason: 'Healthy', message: 'no device reports an error' },
  );
  const namespacesReady = allRight(
    stats.namespaces.filter(({ state }) => state !== 'Ready').map(aboutNamespace),
    { reason: 'Ready', message: 'every namespace is ready' },
  );
  const fullService = allRight(
    listeners.filter(({ phase }) => phase === 'Degraded').map((listener) => aboutShortage(listener, node)),
    { reason: 'FullService', message: 'nothing serves with less than it should' },
  );
  return {
    Accepted: accepted,
    ListenersReady: listenersReady,
    LinksUp: linksUp,
    DeviceHealthy: deviceHealthy,
    NamespacesReady: namespacesReady,
    Degraded: { ...fullService, status: fullService.status === 'False' ? 'True' : 'False' },
    // The cause before its consequences.
    Ready: readiness(stats, accepted, [deviceHealthy, linksUp, listenersReady, namespacesReady]),
  };
}

/**
 * The first thing that stands in the way of being ready. A change that was refused does not: what was there before is
 * served in full.
 */
function readiness(stats: CoreStats, accepted: Verdict, parts: readonly Verdict[]): Verdict {
  if (stats.state !== 'Running') {
    return { status: 'False', reason: 'Draining', message: 'the dataplane is leaving; hosts were told' };
  }
  if (stats.generation === 0 && accepted.status === 'False') return accepted;
  if (stats.generation === 0) return { ...unknown, status: 'False' };
  if (stats.paths !== 'Accessible') {
    const message =
      stats.paths === 'Leaving'
        ? 'the paths through this node are inaccessible; some host has not read so yet, or its I/O is in flight'
        : 'the paths through this node are inaccessible; hosts use other paths, or wait';
    return { status: 'False', reason: 'PathsInaccessible', message };
  }
  const obstacle = parts.find(({ status }) => status !== 'True');
  if (obstacle !== undefined) return { ...obstacle, status: 'False' };
  return { status: 'True', reason: 'Ready', message: 'every listener and namespace serves' };
}

function judgeLinks(listeners: readonly ListenerStats[], node: string): Verdict {
  const wrong = listeners.filter(({ linkUp }) => !linkUp);
  const told = wrong.filter(({ reason }) => reason !== startingReason);
  if (told.length === 0 && wrong.length > 0) {
    return { status: 'Unknown', reason: startingReason, message: 'links are being looked at' };
  }
  return allRight(
    told.map((listener) => aboutLink(listener, node)),
    { reason: 'LinksUp', message: 'every link is up' },
  );
}

/** True when there is no fault; else False with the reason of the first and the messages of all. */
function allRight(faults: readonly Fault[], right: Fault): Verdict {
  const [first] = faults;
  if (first === undefined) return { status: 'True', ...right };
  return {
    status: 'False',
    reason: first.reason,
    message: faults.map(({ message }) => message).join('; '),
  };
}

function aboutListener({ name, phase, reason, message }: ListenerStats): Fault {
  const why = [phase, message || reason].filter((part) => part !== '');
  return { reason: causes[reason] ?? (reason || phase), message: `listener ${name}: ${why.join(': ')}` };
}

function aboutLink(listener: ListenerStats, node: string): Fault {
  const { name, reason, message } = listener;
  if (pathReasons.has(reason))
    return { reason, message: `listener ${name} on ${node}: ${message || reason}` };
  const netdev = listener.netdev ?? '';
  return {
    reason: 'LinkDown',
    message: `listener ${name}: link ${netdev} is down; look at "ip link show ${netdev}" on ${node}, the cable and the switch port; the listener serves again by itself when the link is back`,
  };
}

function aboutDevice(listener: ListenerStats, node: string): Fault {
  const { name, device, phase, reason, message } = listener;
  const what = device === null ? '' : `device ${device}: `;
  return {
    reason: reason || 'DeviceFailed',
    message: `listener ${name} on ${node}: ${what}${message || reason || phase}`,
  };
}

function aboutShortage({ name, reason, message }: ListenerStats, node: string): Fault {
  return {
    reason: reason || 'Degraded',
    message: `listener ${name}: ${message || 'serves with less memory than it should'}; look at the memory that the pod may lock and at the free memory of ${node}; it keeps trying and heals by itself`,
  };
}

/** A namespace that is served as it was, because what is asked for now was refused (to shrink it, for one). */
function servesFormerState({ state, reason }: NamespaceStats): boolean {
  return state === 'Ready' && reason !== '' && reason !== 'Grown';
}

/** A host that has to authenticate, and whose key is not there. The others are served. */
function aboutKey({ hostNqn, message }: CoreStats['authenticationProblems'][number]): Fault {
  return { reason: 'SecretWithoutKey', message: `host ${hostNqn}: ${message}` };
}

function aboutNamespace({ nsid, subsystem, state, reason, message }: NamespaceStats): Fault {
  return {
    reason: reason || state,
    message: `namespace ${nsid} of ${subsystem}: ${message || reason || state}`,
  };
}
