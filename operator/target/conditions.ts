/** Changing a list of conditions: `lastTransitionTime` moves only when the status does. */
import type { Condition } from '../../crds/condition.ts';
import { TARGET_CONDITIONS } from '../../crds/condition-reasons.ts';

/** A condition's verdict, before it has a time. */
export interface Verdict {
  readonly status: Condition['status'];
  readonly reason: string;
  readonly message: string;
}

/** Every condition type of an NvmeofTarget, in the order in which they are shown. */
export const CONDITION_TYPES = Object.keys(TARGET_CONDITIONS) as readonly ConditionType[];

/** Type of a condition of an NvmeofTarget. */
export type ConditionType = keyof typeof TARGET_CONDITIONS;

/** What is not known yet. */
export const UNKNOWN: Verdict = {
  status: 'Unknown',
  reason: 'Pending',
  message: 'waiting for the first report',
};

/** Longest message of a condition that the operator writes: enough to read, small enough for every watcher. */
const MESSAGE_LENGTH_MAX = 1024;

function shortened(message: string): string {
  return message.length <= MESSAGE_LENGTH_MAX ? message : `${message.slice(0, MESSAGE_LENGTH_MAX - 1)}…`;
}

/** Puts verdicts into conditions, all types of them: what has no verdict keeps its state, or is Unknown. */
export function updateConditions(
  previous: readonly Condition[],
  verdicts: Partial<Record<ConditionType, Verdict>>,
  generation: number,
  now: Date,
): Condition[] {
  const before = new Map(previous.map((condition) => [condition.type, condition]));
  return CONDITION_TYPES.map((type) => {
    const old = before.get(type);
    const verdict = verdicts[type];
    if (verdict === undefined && old !== undefined) return old;
    const { status, reason, message } = verdict ?? UNKNOWN;
    const lastTransitionTime =
      old !== undefined && old.status === status
        ? old.lastTransitionTime
        : now.toISOString().replace(/\.[0-9]{3}Z$/, 'Z');
    return {
      type,
      status,
      observedGeneration: generation,
      lastTransitionTime,
      reason,
      message: shortened(message),
    };
  });
}

/** The condition of that type. */
export function findCondition(
  conditions: readonly Condition[] | undefined,
  type: string,
): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}
