/** Dashboards in a few lines each, and their way to Grafana's JSON model (schema version 39: Grafana 11 and later). */

/** One curve, or one for each series that the expression has. */
export interface Query {
  /** PromQL. May use the dashboard's variables and Grafana's `$__rate_interval`. */
  readonly expr: string;
  /** Name of a curve; `{{label}}` stands for a label's value. */
  readonly legend: string;
}

/** One picture. */
export interface Panel {
  readonly title: string;
  /** What it tells, and when to worry. */
  readonly description: string;
  /** `stat`: the value now. `state-timeline`: which of some names held when. */
  readonly type: 'timeseries' | 'stat' | 'state-timeline';
  /** Grafana's name of the unit, such as `s`, `Bps`, `percentunit`. */
  readonly unit: string;
  readonly queries: readonly Query[];
  /** A `stat` is red unless this holds of its value; without it, it has no colour. */
  readonly good?: 'zero' | 'one';
}

/** A panel of curves over time. */
export const curves = (title: string, description: string, unit: string, ...queries: Query[]): Panel => ({
  title,
  description,
  type: 'timeseries',
  unit,
  queries,
});

/** A panel of one number: how it is now. */
export const valueNow = (title: string, description: string, expr: string, good?: Panel['good']): Panel => ({
  title,
  description,
  type: 'stat',
  unit: 'none',
  queries: [{ expr, legend: title }],
  ...(good === undefined ? {} : { good }),
});

/** Panels under one heading. */
export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

/** A choice of label values at the top of a dashboard; used as `label=~"$name"`. */
export interface Variable {
  readonly name: string;
  readonly label: string;
  /** Grafana's `label_values(metric, label)`. */
  readonly query: string;
}

/** See the head of this file. */
export interface Dashboard {
  /** Stays the same for ever: links lead to it. */
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly variables: readonly Variable[];
  readonly rows: readonly Row[];
}

const COLUMNS = 24;
const PANELS_A_LINE = 3;
const STATS_A_LINE = 6;
const PANEL_HEIGHT = 8;
const STAT_HEIGHT = 4;

/** The variable that names the Prometheus; every panel asks it. */
const DATASOURCE = { type: 'prometheus', uid: `\${datasource}` } as const;

const GREEN = 'green';
const RED = 'red';
const steps = {
  zero: [
    { color: GREEN, value: null },
    { color: RED, value: 1 },
  ],
  one: [
    { color: RED, value: null },
    { color: GREEN, value: 1 },
  ],
} as const;

function fieldConfig({ unit, good }: Panel): unknown {
  return {
    defaults: {
      unit,
      ...(good === undefined
        ? {}
        : { color: { mode: 'thresholds' }, thresholds: { mode: 'absolute', steps: steps[good] } }),
    },
    overrides: [],
  };
}

const options: Readonly<Record<Panel['type'], unknown>> = {
  timeseries: {
    legend: { displayMode: 'list', placement: 'bottom' },
    tooltip: { mode: 'multi', sort: 'desc' },
  },
  stat: { reduceOptions: { calcs: ['lastNotNull'] }, textMode: 'value_and_name' },
  'state-timeline': { mergeValues: true, showValue: 'never', legend: { showLegend: false } },
};

function panel(source: Panel, id: number, gridPos: unknown): unknown {
  const { title, description, type, queries } = source;
  const targets = queries.map(({ expr, legend }, index) => ({
    refId: String.fromCharCode('A'.charCodeAt(0) + index),
    datasource: DATASOURCE,
    expr,
    legendFormat: legend,
    ...(type === 'stat' ? { instant: true } : {}),
  }));
  return {
    id,
    title,
    description,
    type,
    datasource: DATASOURCE,
    gridPos,
    fieldConfig: fieldConfig(source),
    options: options[type],
    targets,
  };
}

/** Rows and their panels from top to bottom, each row's panels in lines of equal height. */
function layOut(rows: readonly Row[]): unknown[] {
  const laid: unknown[] = [];
  let top = 0;
  for (const { title, panels } of rows) {
    laid.push({
      id: laid.length + 1,
      type: 'row',
      title,
      collapsed: false,
      gridPos: { x: 0, y: top, w: COLUMNS, h: 1 },
      panels: [],
    });
    top += 1;
    const areStats = panels.every(({ type }) => type === 'stat');
    const aLine = areStats ? STATS_A_LINE : PANELS_A_LINE;
    const h = areStats ? STAT_HEIGHT : PANEL_HEIGHT;
    const w = COLUMNS / aLine;
    for (const [index, source] of panels.entries()) {
      const gridPos = { x: (index % aLine) * w, y: top + Math.floor(index / aLine) * h, w, h };
      laid.push(panel(source, laid.length + 1, gridPos));
    }
    top += Math.ceil(panels.length / aLine) * h;
  }
  return laid;
}

function variable({ name, label, query }: Variable): unknown {
  return {
    name,
    label,
    type: 'query',
    datasource: DATASOURCE,
    query: { query, refId: name },
    refresh: 2,
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: '.*',
    current: { selected: true, text: ['All'], value: ['$__all'] },
  };
}

/** As Grafana takes it. */
export function grafanaModel({ uid, title, description, variables, rows }: Dashboard): unknown {
  return {
    uid,
    title,
    description,
    tags: ['weir'],
    schemaVersion: 39,
    editable: true,
    graphTooltip: 1,
    refresh: '30s',
    time: { from: 'now-3h', to: 'now' },
    templating: {
      list: [
        { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus' },
        ...variables.map(variable),
      ],
    },
    panels: layOut(rows),
  };
}

/** Every expression of a dashboard with the panel that shows it. */
export function queriesOf({ rows }: Dashboard): { panel: string; expr: string }[] {
  return rows.flatMap(({ panels }) =>
    panels.flatMap(({ title, queries }) => queries.map(({ expr }) => ({ panel: title, expr }))),
  );
}

/** An expression with everything chosen, as Grafana sends it: for tests, which ask a Prometheus themselves. */
export function withEverythingChosen(expr: string, { variables }: Dashboard, rateInterval: string): string {
  const filled = expr.replaceAll('$__rate_interval', rateInterval);
  return variables.reduce((text, { name }) => text.replaceAll(`$${name}`, '.*'), filled);
}
