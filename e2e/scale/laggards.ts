/** Which targets the others wait for, when it is only a few: a run that hangs says so by itself. */
import { findCondition } from '../../operator/target/conditions.ts';
import type { StoredTarget } from '../../operator/target/nvmeof-target.ts';

/** More than these are not laggards: the run is in the midst of its work. */
const LAGGARDS_MAX = 10;
const NAMED_MAX = 3;

/** Whether the target says that it is ready. */
export function isReady({ status }: StoredTarget): boolean {
  return findCondition(status?.conditions, 'Ready')?.status === 'True';
}

/** Names the first of the targets that are not ready, with what their condition says; empty when there are many, or none. */
export function laggards(targets: Iterable<StoredTarget>): string {
  const unready = [...targets].filter((target) => !isReady(target));
  if (unready.length > LAGGARDS_MAX) return '';
  return unready
    .slice(0, NAMED_MAX)
    .map(({ metadata: { name }, status }) => {
      const ready = findCondition(status?.conditions, 'Ready');
      return ready === undefined ? `${name}: no status yet` : `${name}: ${ready.reason}: ${ready.message}`;
    })
    .join('; ');
}
