/**
 * Ports for metrics and health. Pods on the host network share the node's ports, so two targets that may meet on a
 * node need different ones; targets that never meet may share.
 */
import type { PortRange } from '../settings.ts';

/** A target as the assignment sees it. */
export interface PortHolder {
  readonly port: number | undefined;
  /** Names of the nodes that it runs on. */
  readonly nodes: ReadonlySet<string>;
}

function meet(left: ReadonlySet<string>, right: ReadonlySet<string>): boolean {
  const [small, large] = left.size < right.size ? [left, right] : [right, left];
  for (const node of small) if (large.has(node)) return true;
  return false;
}

/**
 * The port of a target: the one it has, as long as no target that takes precedence has it on a common node; else the
 * lowest one that nobody on a common node has. Undefined when the range is used up.
 * @param others every other target; `precedes` tells which of them keep their port in a conflict.
 * @param inUse ports that pods of others still have on a common node, which are given to nobody else; asked for only
 *   when a port is looked for.
 */
export function assignMetricsPort(
  own: PortHolder,
  others: readonly (PortHolder & { readonly precedes: boolean })[],
  range: PortRange,
  inUse: () => Iterable<number> = () => [],
): number | undefined {
  const neighbours = others.filter((other) => meet(own.nodes, other.nodes));
  const inRange = own.port !== undefined && own.port >= range.first && own.port <= range.last;
  if (inRange && !neighbours.some((other) => other.precedes && other.port === own.port)) return own.port;
  const taken = new Set([...neighbours.map((other) => other.port), ...inUse()]);
  for (let port = range.first; port <= range.last; port += 1) if (!taken.has(port)) return port;
  return undefined;
}
