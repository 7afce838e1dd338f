import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { grafanaModel, queriesOf } from './dashboard.ts';
import { DASHBOARDS } from './files.ts';

/** Metrics that are not Weir's own: Prometheus's alerts, and those of the process. */
const OTHERS = /^(ALERTS|process_|nodejs_)/;
/** Words of PromQL in the expressions, and names of labels. */
const METRIC =
  /\b((?:weir|controller_runtime|workqueue|leader_election|rest_client|process|nodejs)_\w+|ALERTS)\b/g;

const metricsOf = (expr: string): string[] =>
  [...expr.matchAll(METRIC)].map(([name]) => name.replace(/_bucket$/, ''));

const published = async (): Promise<Set<string>> => {
  const reference = await readFile(new URL('../../docs/reference/metrics.md', import.meta.url), 'utf8');
  return new Set([...reference.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name ?? ''));
};

interface Placed {
  readonly id: number;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
}

const panelsOf = (model: unknown): readonly Placed[] => (model as { panels: Placed[] }).panels;

const overlap = ({ gridPos: a }: Placed, { gridPos: b }: Placed): boolean =>
  a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

describe.each(DASHBOARDS.map((dashboard) => [dashboard.uid, dashboard] as const))(
  'dashboard %s',
  (_, dashboard) => {
    it('asks only for metrics that are published', async () => {
      const names = queriesOf(dashboard).flatMap(({ expr }) => metricsOf(expr));
      const known = await published();
      expect(names.filter((name) => !known.has(name) && !OTHERS.test(name))).toEqual([]);
      expect(names.length).toBeGreaterThanOrEqual(queriesOf(dashboard).length);
    });

    it('lets its variables choose in every panel', () => {
      const names = dashboard.variables.map(({ name }) => `$${name}`);
      const chosen = queriesOf(dashboard).filter(({ expr }) => names.some((name) => expr.includes(name)));
      const all = queriesOf(dashboard).filter(({ expr }) => !expr.includes('ALERTS'));
      expect(chosen).toEqual(all);
    });

    it('has every panel in a place of its own, within the width of the screen', () => {
      const panels = panelsOf(grafanaModel(dashboard));
      const clashes = panels.flatMap((one, index) =>
        panels.slice(index + 1).filter((other) => overlap(one, other)),
      );
      expect(clashes).toEqual([]);
      expect(panels.every(({ gridPos: { x, w } }) => x + w <= 24)).toBe(true);
      expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    });
  },
);
