/** `kubectl weir status`: how each target is, and each listener of its nodes. */
import { showSpan } from './spans.ts';
import { renderTable } from './table.ts';
import { type ClusterView, type TargetNodeView, type TargetView, targetKey } from './view.ts';

const UNKNOWN = '-';

type Listener = NonNullable<TargetNodeView['status']['listeners']>[number];

const ago = (time: string | undefined, now: Date): string =>
  time === undefined ? UNKNOWN : showSpan(now.getTime() - Date.parse(time));

function targetRow(target: TargetView): string[] {
  const { status } = target;
  const ready = status.conditions?.find(({ type }) => type === 'Ready');
  const complaint = ready?.status === 'True' ? '' : `${ready?.reason ?? ''} ${ready?.message ?? ''}`.trim();
  return [
    targetKey(target),
    ready?.status ?? 'Unknown',
    status.nodes ?? UNKNOWN,
    String(status.connectedHosts ?? UNKNOWN),
    complaint,
  ];
}

function link({ linkUp }: Listener): string {
  if (linkUp === undefined) return UNKNOWN;
  return linkUp ? 'up' : 'DOWN';
}

function lastOutage({ outages }: Listener, now: Date): string {
  const [newest] = outages ?? [];
  if (newest === undefined) return 'none';
  if (newest.endTime === undefined) return `now, for ${ago(newest.startTime, now)}: ${newest.reason}`;
  const length = Date.parse(newest.endTime) - Date.parse(newest.startTime);
  return `${ago(newest.startTime, now)} ago, ${showSpan(length)}: ${newest.reason}`;
}

function listenerRow(node: TargetNodeView, listener: Listener, now: Date): string[] {
  const { address, port } = listener;
  return [
    node.spec.target,
    node.spec.nodeName,
    listener.name,
    address === undefined
      ? UNKNOWN
      : `${address.includes(':') ? `[${address}]` : address}:${port ?? UNKNOWN}`,
    listener.device ?? UNKNOWN,
    link(listener),
    listener.phase,
    ago(listener.lastTransitionTime, now),
    String(listener.queuePairs?.active ?? UNKNOWN),
    lastOutage(listener, now),
  ];
}

/** Two tables: targets, and the listeners of their nodes. */
export function showStatus({ targets, nodes }: ClusterView, now: Date): string {
  if (targets.length === 0) return 'no NvmeofTargets';
  const listeners = nodes.flatMap((node) =>
    (node.status.listeners ?? []).map((listener) => listenerRow(node, listener, now)),
  );
  const tables = [renderTable(['TARGET', 'READY', 'NODES', 'HOSTS', 'WHY NOT'], targets.map(targetRow))];
  if (listeners.length > 0) {
    const headings = [
      'TARGET',
      'NODE',
      'LISTENER',
      'ADDRESS',
      'DEVICE',
      'LINK',
      'PHASE',
      'SINCE',
      'QUEUE PAIRS',
    ];
    tables.push(renderTable([...headings, 'LAST OUTAGE'], listeners));
  }
  return tables.join('\n\n');
}
