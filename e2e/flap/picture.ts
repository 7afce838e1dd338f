/** The I/O rate over time as a picture (SVG): one curve for each target, with the outages marked. */
import { FAINT_INK, GRID, niceStep, short, text } from '../svg.ts';
import type { RateRecord, ScenarioRecord, TargetName } from './report.ts';

const TITLE = 'I/Os per second on the host while its target is cut off';
const WIDTH = 1120;
const MARGIN = { left: 76, right: 28, top: 64, bottom: 30 };
const TITLE_HEIGHT = 58;
const PANEL_HEIGHT = 128;
const PANEL_GAP = 40;
const AXIS_HEIGHT = 40;
const SECTION_GAP = 34;
const PLOT_WIDTH = WIDTH - MARGIN.left - MARGIN.right;
/** Stalls of that many flaps at most are written out; more would not be readable. */
const LABELLED_FLAPS_MAX = 24;

const STYLE: Readonly<Record<TargetName, { label: string; colour: string }>> = {
  weir: { label: 'Weir', colour: '#1d63c7' },
  nvmet: { label: "Linux's own target (nvmet-rdma)", colour: '#b4530a' },
};
const OUTAGE = '#cf222e';

const perSecond = ({ finished, binMs }: RateRecord): number[] =>
  finished.map((count) => (count * 1000) / binMs);

/** Bins that one point of the curve stands for, so that a long run is still a curve and not a hatching. */
const binsPerPoint = (rate: RateRecord): number => Math.max(1, Math.ceil(rate.finished.length / PLOT_WIDTH));

function thinned(rate: RateRecord): { values: number[]; stepMs: number } {
  const every = binsPerPoint(rate);
  const all = perSecond(rate);
  const values: number[] = [];
  for (let at = 0; at < all.length; at += every) {
    const part = all.slice(at, at + every);
    values.push(part.reduce((sum, value) => sum + value, 0) / part.length);
  }
  return { values, stepMs: every * rate.binMs };
}

const durationMs = ({ rate }: ScenarioRecord): number => Math.max(rate.finished.length * rate.binMs, 1);

interface Scales {
  readonly x: (ms: number) => number;
  readonly y: (rate: number) => number;
  readonly rateMax: number;
  readonly rateStep: number;
}

function panel(record: ScenarioRecord, top: number, spanMs: number, rateMax: number): string {
  const rateStep = niceStep(rateMax, 4);
  const scales: Scales = {
    x: (ms) => MARGIN.left + (ms / spanMs) * PLOT_WIDTH,
    y: (rate) => top + PANEL_HEIGHT - (rate / rateMax) * PANEL_HEIGHT,
    rateMax,
    rateStep,
  };
  return [
    text(MARGIN.left, top - 22, STYLE[record.target].label, {
      size: 13,
      colour: STYLE[record.target].colour,
      bold: true,
    }),
    ...outages(record, top, scales),
    ...rateGrid(scales),
    ...curve(record, scales),
  ].join('\n');
}

function outages(record: ScenarioRecord, top: number, { x }: Scales): string[] {
  const labelled = record.flaps.length <= LABELLED_FLAPS_MAX;
  return record.rate.outages.flatMap(([from, to], index) => {
    const width = Math.max(1, x(to) - x(from));
    const band = `<rect x="${short(x(from))}" y="${short(top)}" width="${short(width)}" height="${PANEL_HEIGHT}" fill="${OUTAGE}" fill-opacity="0.16"/>`;
    const stall = record.flaps[index]?.stallAfterUpMs;
    if (!labelled || stall === undefined) return [band];
    const words = stall === null ? 'never' : `${(stall / 1000).toFixed(1)} s`;
    return [band, text(x(to), top - 6, words, { size: 11, colour: FAINT_INK, anchor: 'middle' })];
  });
}

function rateGrid({ y, rateMax, rateStep }: Scales): string[] {
  const lines: string[] = [];
  for (let rate = 0; rate <= rateMax + rateStep / 1000; rate += rateStep) {
    lines.push(
      `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${short(y(rate))}" y2="${short(y(rate))}" stroke="${GRID}" stroke-width="${rate === 0 ? 1.2 : 0.6}"/>`,
      text(MARGIN.left - 8, y(rate) + 4, String(Math.round(rate)), {
        size: 11,
        colour: FAINT_INK,
        anchor: 'end',
      }),
    );
  }
  return lines;
}

function curve(record: ScenarioRecord, { x, y }: Scales): string[] {
  const { values, stepMs } = thinned(record.rate);
  if (values.length === 0) return [];
  const points = values.map((rate, index) => `${short(x((index + 0.5) * stepMs))},${short(y(rate))}`);
  const { colour } = STYLE[record.target];
  const first = short(x(0.5 * stepMs));
  const last = short(x((values.length - 0.5) * stepMs));
  const floor = short(y(0));
  return [
    `<polygon points="${first},${floor} ${points.join(' ')} ${last},${floor}" fill="${colour}" fill-opacity="0.12"/>`,
    `<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="1.5" stroke-linejoin="round"/>`,
  ];
}

function timeAxis(top: number, spanMs: number): string {
  const spanSeconds = spanMs / 1000;
  const step = niceStep(spanSeconds, 12);
  const parts: string[] = [];
  for (let at = 0; at <= spanSeconds; at += step) {
    const x = MARGIN.left + (at / spanSeconds) * PLOT_WIDTH;
    parts.push(
      `<line x1="${short(x)}" x2="${short(x)}" y1="${short(top)}" y2="${short(top + 5)}" stroke="${FAINT_INK}" stroke-width="1"/>`,
      text(x, top + 18, short(at), { size: 11, colour: FAINT_INK, anchor: 'middle' }),
    );
  }
  parts.push(text(WIDTH - MARGIN.right, top + 34, 'seconds', { size: 11, colour: FAINT_INK, anchor: 'end' }));
  return parts.join('\n');
}

interface Section {
  readonly svg: string;
  readonly height: number;
}

function section(scenario: string, says: string, records: readonly ScenarioRecord[], top: number): Section {
  const spanMs = Math.max(...records.map(durationMs));
  const highest = Math.max(1, ...records.flatMap(({ rate }) => thinned(rate).values));
  const step = niceStep(highest, 4);
  const rateMax = Math.ceil(highest / step) * step;
  const parts = [
    text(MARGIN.left, top + 16, scenario, { size: 17, bold: true }),
    text(MARGIN.left, top + 35, says, { size: 12, colour: FAINT_INK }),
  ];
  let at = top + TITLE_HEIGHT + PANEL_GAP - 16;
  for (const record of records) {
    parts.push(panel(record, at, spanMs, rateMax));
    at += PANEL_HEIGHT + PANEL_GAP;
  }
  at -= PANEL_GAP;
  parts.push(timeAxis(at, spanMs));
  return { svg: parts.join('\n'), height: at + AXIS_HEIGHT - top };
}

/**
 * Draws every scenario of a report; `says` has a sentence for each. The targets of a scenario share both axes; over
 * each outage stands how long I/O took to move after it.
 */
export function renderPicture(
  records: readonly ScenarioRecord[],
  says: (scenario: string) => string,
): string {
  const names = [...new Set(records.map(({ scenario }) => scenario))];
  const sections: string[] = [];
  let top = MARGIN.top;
  for (const name of names) {
    const part = section(
      name,
      says(name),
      records.filter(({ scenario }) => scenario === name),
      top,
    );
    sections.push(part.svg);
    top += part.height + SECTION_GAP;
  }
  const height = top - SECTION_GAP + MARGIN.bottom;
  const { kernel = '', startedAt = '' } = records[0] ?? {};
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="'Helvetica Neue', 'Segoe UI', 'DejaVu Sans', sans-serif">`,
    `<title>${TITLE}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(MARGIN.left, 30, TITLE, { size: 20, bold: true }),
    text(
      MARGIN.left,
      50,
      `red: the outage; the number over its end: seconds from link-up to the first I/O. Emulated guests, kernel ${kernel}, ${startedAt.slice(0, 10)}`,
      { size: 12, colour: FAINT_INK },
    ),
    ...sections,
    '</svg>',
    '',
  ].join('\n');
}
