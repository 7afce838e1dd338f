/** `kubectl weir hosts`: who is connected, over which path, since when. */
import { showSpan } from './spans.ts';
import { renderTable } from './table.ts';
import type { ClusterView, TargetNodeView } from './view.ts';

type Host = NonNullable<TargetNodeView['status']['hosts']>[number];

function hostRow({ spec }: TargetNodeView, host: Host, now: Date): string[] {
  const { connectedSince, source, listener } = host;
  return [
    host.hostNQN,
    spec.target,
    spec.nodeName,
    listener ?? '-',
    source ?? '-',
    String(host.queues),
    connectedSince === undefined ? '-' : showSpan(now.getTime() - Date.parse(connectedSince)),
  ];
}

/** One line for each connection; the paths of a host stand together. */
export function showHosts({ nodes }: ClusterView, now: Date): string {
  const rows = nodes
    .flatMap((node) => (node.status.hosts ?? []).map((host) => hostRow(node, host, now)))
    .toSorted((a, b) => a.join(' ').localeCompare(b.join(' ')));
  const unnamed = nodes.reduce(
    (sum, { status }) => sum + Math.max(0, (status.connectedHosts ?? 0) - (status.hosts?.length ?? 0)),
    0,
  );
  if (rows.length === 0 && unnamed === 0) return 'no hosts are connected';
  const table = renderTable(['HOST', 'TARGET', 'NODE', 'LISTENER', 'FROM', 'QUEUES', 'SINCE'], rows);
  return unnamed === 0 ? table : `${table}\nand ${unnamed} more, which the status has no room for`;
}
