/** Stores the status of targets and tells what changed in it. */
import { isDeepStrictEqual } from 'node:util';
import { API_VERSION, OPERATOR_FIELD_MANAGER, TARGET_KIND } from '../../crds/api-group.ts';
import type { Condition } from '../../crds/condition.ts';
import type { NvmeofTargetStatus } from '../../crds/nvmeof-target.ts';
import type { Api } from '../kubernetes/api-client.ts';
import type { EventDetails, EventRecorder } from '../kubernetes/event-recorder.ts';
import { objectPath, RESOURCES } from '../kubernetes/resource.ts';
import { findCondition } from './conditions.ts';
import type { StoredTarget } from './nvmeof-target.ts';

/** `Progressing` reasons that people must know of; the others come and go with every rollout. */
const NOTEWORTHY_PROGRESS = new Set([
  'DeletionBlocked',
  'Draining',
  'PodSecurityForbids',
  'Unschedulable',
  'ImagePullBackOff',
  'CrashLoopBackOff',
  'CreateContainerConfigError',
  'CreateContainerError',
]);

function eventFor(
  type: string,
  old: Condition | undefined,
  current: Condition | undefined,
): EventDetails | undefined {
  if (current === undefined) return undefined;
  const unchanged =
    old?.status === current.status && (current.status === 'True' || old.reason === current.reason);
  if (unchanged) return undefined;
  const { status, reason, message } = current;
  // Links that flap, of one node or of many, change what is told and not what it is about.
  const subject = type;
  switch (type) {
    case 'Accepted':
      if (status === 'False') return { type: 'Warning', reason, action: 'KeepLastGoodState', note: message };
      return { type: 'Normal', reason: 'Accepted', action: 'Apply', note: message };
    case 'Ready':
      if (status === 'True')
        return { type: 'Normal', reason: 'Ready', action: 'Serve', note: message, subject };
      return old?.status === 'True'
        ? { type: 'Warning', reason, action: 'Recover', note: message, subject }
        : undefined;
    case 'Degraded':
      if (status === 'True') return { type: 'Warning', reason, action: 'Serve', note: message, subject };
      return old?.status === 'True'
        ? { type: 'Normal', reason: 'FullService', action: 'Serve', note: message, subject }
        : undefined;
    case 'Progressing':
      if (!NOTEWORTHY_PROGRESS.has(reason)) return undefined;
      return { type: reason === 'Draining' ? 'Normal' : 'Warning', reason, action: 'Wait', note: message };
    default:
      return undefined;
  }
}

/** Events that a change of status is worth: one for each condition that changed in a way that matters. */
export function statusEvents(
  before: NvmeofTargetStatus | undefined,
  after: NvmeofTargetStatus,
): EventDetails[] {
  return ['Accepted', 'Progressing', 'Degraded', 'Ready'].flatMap((type) => {
    const old = findCondition(before?.conditions, type);
    // Progress is told by reason alone: its status says only whether it goes on.
    const comparable =
      type === 'Progressing' && old !== undefined ? { ...old, status: 'Unknown' as const } : old;
    const current = findCondition(after.conditions, type);
    if (type === 'Progressing' && old?.reason === current?.reason) return [];
    return eventFor(type, comparable, current) ?? [];
  });
}

/** Writes statuses, each only when it changed. */
export class StatusWriter {
  readonly #api: Api;
  readonly #events: EventRecorder;
  /** What was written last, by UID: newer than a cache that has not seen it yet. */
  readonly #written = new Map<string, NvmeofTargetStatus>();

  constructor(api: Api, events: EventRecorder) {
    this.#api = api;
    this.#events = events;
  }

  /** The status that is stored, as far as is known. */
  current(target: StoredTarget): NvmeofTargetStatus | undefined {
    return this.#written.get(target.metadata.uid ?? '') ?? target.status;
  }

  /** Forgets a target that is gone. */
  forget(uid: string): void {
    this.#written.delete(uid);
  }

  /** Stores a status unless it is stored already, and records Events for what changed. */
  async write(target: StoredTarget, status: NvmeofTargetStatus): Promise<void> {
    const before = this.current(target);
    if (isDeepStrictEqual(before, status)) return;
    const { name, namespace = '', uid = '' } = target.metadata;
    const path = objectPath(RESOURCES.targets, { namespace, name }, 'status');
    const body = { apiVersion: API_VERSION, kind: TARGET_KIND, metadata: { name, namespace }, status };
    await this.#api.apply(path, body, OPERATOR_FIELD_MANAGER);
    this.#written.set(uid, status);
    for (const event of statusEvents(before, status))
      await this.#events.record(RESOURCES.targets, target, event);
  }
}
