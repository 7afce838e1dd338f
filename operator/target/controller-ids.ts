/**
 * Controller ids of the nodes of a shared subsystem. A controller id names one association in the whole subsystem, so
 * each node gives out ids from its own slice; a node keeps its slice for as long as it is selected.
 */
import type { ControllerIds } from '../build/target-node.ts';

/** NVM Express Base 2.0: ids above FFEFh are reserved, and 0 is left out so that a zeroed id is never valid. */
const FIRST_ID = 1;
const LAST_ID = 0xffef;

/** Nodes that a shared subsystem can span; also the number of ANA groups. */
export const SHARED_NODES_MAX = 128;

const SLICE = Math.floor((LAST_ID - FIRST_ID + 1) / SHARED_NODES_MAX);

/** All ids, for a subsystem that lives on one node only. */
export const ALL_CONTROLLER_IDS: ControllerIds = { first: FIRST_ID, last: LAST_ID };

function sliceOf(index: number): ControllerIds {
  return { first: FIRST_ID + index * SLICE, last: FIRST_ID + (index + 1) * SLICE - 1 };
}

function indexOf(ids: ControllerIds | undefined): number | undefined {
  if (ids === undefined || (ids.first - FIRST_ID) % SLICE !== 0) return undefined;
  return sliceOf((ids.first - FIRST_ID) / SLICE).last === ids.last
    ? (ids.first - FIRST_ID) / SLICE
    : undefined;
}

/**
 * A slice for each node. Nodes in `existing` keep theirs; the others get the lowest free ones in the order given.
 * Throws when there are more than {@link SHARED_NODES_MAX} nodes.
 */
export function assignControllerIds(
  nodes: readonly string[],
  existing: ReadonlyMap<string, ControllerIds>,
): Map<string, ControllerIds> {
  if (nodes.length > SHARED_NODES_MAX) throw new RangeError(`more than ${SHARED_NODES_MAX} nodes`);
  const assigned = new Map<string, ControllerIds>();
  const used = new Set<number>();
  for (const node of nodes) {
    const index = indexOf(existing.get(node));
    if (index === undefined || index >= SHARED_NODES_MAX || used.has(index)) continue;
    used.add(index);
    assigned.set(node, sliceOf(index));
  }
  let next = 0;
  for (const node of nodes) {
    if (assigned.has(node)) continue;
    while (used.has(next)) next += 1;
    used.add(next);
    assigned.set(node, sliceOf(next));
  }
  return assigned;
}
