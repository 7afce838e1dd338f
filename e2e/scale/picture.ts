/** What a size costs, as a picture (SVG): one small plot for each figure, against the number of objects. */
import { FAINT_INK, GRID, niceStep, short, text } from '../svg.ts';
import type { ScaleRecord } from './report.ts';

const PLOT = { width: 300, height: 170, left: 56, right: 22, top: 64, bottom: 46 };
const COLUMNS = 3;
const CELL = { width: PLOT.left + PLOT.width + PLOT.right, height: PLOT.top + PLOT.height + PLOT.bottom };
const SERIES = [
  { label: 'with pods, until every target is ready', colour: '#1d63c7', pods: true },
  { label: 'the operator alone, without pods', colour: '#b4530a', pods: false },
] as const;
const HEADER_HEIGHT = 44;

interface Figure {
  readonly title: string;
  readonly unit: string;
  readonly value: (record: ScaleRecord) => number;
}

const FIGURES: readonly Figure[] = [
  { title: 'Until the operator is at rest', unit: 's', value: ({ settledSeconds }) => settledSeconds },
  { title: 'CPU of the operator until then', unit: 's', value: ({ cpuSeconds }) => cpuSeconds },
  { title: 'Memory of the operator (RSS)', unit: 'MiB', value: ({ residentMiB }) => residentMiB },
  { title: 'Requests per object, creation', unit: '', value: ({ requestsPerObject }) => requestsPerObject },
  { title: 'Requests per object, edit', unit: '', value: ({ edits }) => edits.requestsPerObject },
  { title: 'Edit to child, p99', unit: 'ms', value: ({ edits }) => edits.p99Ms },
];

/** Renders the records; every axis begins at zero. */
export function renderScale(records: readonly ScaleRecord[]): string {
  const rows = Math.ceil(FIGURES.length / COLUMNS);
  const [width, height] = [COLUMNS * CELL.width, HEADER_HEIGHT + rows * CELL.height];
  const plots = FIGURES.map((figure, index) =>
    plot(
      figure,
      records,
      (index % COLUMNS) * CELL.width,
      HEADER_HEIGHT + Math.floor(index / COLUMNS) * CELL.height,
    ),
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif">`,
    '<title>What targets cost the operator, by their number</title>',
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    ...SERIES.map(({ label, colour }, index) =>
      text(PLOT.left + index * 320, 28, `● ${label}`, { colour, bold: true }),
    ),
    ...plots,
    '</svg>',
    '',
  ].join('\n');
}

function plot(
  { title, unit, value }: Figure,
  records: readonly ScaleRecord[],
  left: number,
  top: number,
): string {
  const objectsMax = Math.max(1, ...records.map(({ objects }) => objects));
  const step = niceStep(Math.max(0.001, ...records.map(value)), 4);
  const valueMax = Math.max(step, Math.ceil(Math.max(...records.map(value)) / step) * step);
  const x = (objects: number): number => left + PLOT.left + (objects / objectsMax) * PLOT.width;
  const y = (amount: number): number => top + PLOT.top + PLOT.height * (1 - amount / valueMax);
  const lines: string[] = [text(left + PLOT.left, top + PLOT.top - 20, title, { size: 13, bold: true })];
  for (let at = 0; at <= valueMax + step / 1000; at += step) {
    const label = `${Number(at.toPrecision(6))}${unit === '' ? '' : ` ${unit}`}`;
    lines.push(
      `<line x1="${short(x(0))}" x2="${short(x(objectsMax))}" y1="${short(y(at))}" y2="${short(y(at))}" stroke="${GRID}"/>`,
      text(x(0) - 6, y(at) + 4, label, { size: 10, colour: FAINT_INK, anchor: 'end' }),
    );
  }
  for (const { colour, pods } of SERIES) {
    const series = records.filter((record) => record.pods === pods);
    const points = series.map((record) => `${short(x(record.objects))},${short(y(value(record)))}`);
    lines.push(
      `<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...points.map((point) => {
        const [cx, cy] = point.split(',');
        return `<circle cx="${cx}" cy="${cy}" r="3.5" fill="${colour}"/>`;
      }),
    );
  }
  const objectCounts = new Set(records.map(({ objects }) => objects));
  lines.push(
    ...[...objectCounts].map((objects) =>
      text(x(objects), y(0) + 16, String(objects), { size: 10, colour: FAINT_INK, anchor: 'middle' }),
    ),
    text(x(objectsMax / 2), y(0) + 32, 'NvmeofTargetNode objects', {
      size: 10,
      colour: FAINT_INK,
      anchor: 'middle',
    }),
  );
  return lines.join('\n');
}
