/** `kubectl weir history`: what happened, newest first. Outages are kept for long; Events as long as the cluster keeps them. */
import { showSpan } from './spans.ts';
import { renderTable } from './table.ts';
import type { ClusterView, EventView, TargetNodeView } from './view.ts';

interface Happening {
  readonly at: number;
  /** Unix milliseconds; of what goes on: now, and later. */
  readonly until: number;
  /** Milliseconds; absent: it has no length, or goes on. */
  readonly length?: number;
  readonly where: string;
  readonly what: string;
}

function outagesOf(node: TargetNodeView): Happening[] {
  return (node.status.listeners ?? []).flatMap(({ name, outages = [] }) =>
    outages.map(({ startTime, endTime, reason, message }) => ({
      at: Date.parse(startTime),
      until: endTime === undefined ? Number.POSITIVE_INFINITY : Date.parse(endTime),
      ...(endTime === undefined ? {} : { length: Date.parse(endTime) - Date.parse(startTime) }),
      where: `${node.spec.target} ${node.spec.nodeName} ${name}`,
      what: `${endTime === undefined ? 'OUTAGE, goes on' : 'outage'}: ${reason}${message === undefined ? '' : `: ${message}`}`,
    })),
  );
}

function happeningOf(event: EventView): Happening {
  const { series, eventTime, deprecatedLastTimestamp, regarding } = event;
  const count = series === null || series === undefined ? '' : ` (${series.count} times)`;
  const at = Date.parse(series?.lastObservedTime ?? eventTime ?? deprecatedLastTimestamp ?? '');
  return {
    at,
    until: at,
    where: `${event.metadata.namespace}/${regarding.name}`,
    what: `${event.type === 'Normal' ? '' : `${event.type}: `}${event.reason}${count}: ${event.note}`,
  };
}

/** Everything not longer ago than `spanMs`. */
export function showHistory({ nodes, events }: ClusterView, spanMs: number, now: Date): string {
  const happenings = [...nodes.flatMap(outagesOf), ...(events ?? []).map(happeningOf)]
    .filter(({ until }) => until >= now.getTime() - spanMs)
    .toSorted((a, b) => b.at - a.at);
  const rows = happenings.map(({ at, length, where, what }) => [
    new Date(at).toISOString().replace('T', ' ').slice(0, 19),
    length === undefined ? '' : showSpan(length),
    where,
    what,
  ]);
  const told =
    rows.length === 0
      ? `nothing happened in the last ${showSpan(spanMs)}`
      : renderTable(['WHEN (UTC)', 'FOR', 'WHERE', 'WHAT'], rows);
  return events === undefined ? `${told}\n(without Events: this account may not read them)` : told;
}
