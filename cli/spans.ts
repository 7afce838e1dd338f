/** Lengths of time, as people say and write them. */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const UNITS = { s: SECOND, m: MINUTE, h: HOUR, d: DAY } as const;

/** How long: exact where it is short, rounded down to its largest unit where it is long. */
export function showSpan(milliseconds: number): string {
  if (milliseconds < 10 * SECOND) return `${(Math.max(0, milliseconds) / SECOND).toFixed(1)}s`;
  if (milliseconds < 2 * MINUTE) return `${Math.floor(milliseconds / SECOND)}s`;
  if (milliseconds < 2 * HOUR) return `${Math.floor(milliseconds / MINUTE)}m`;
  if (milliseconds < 2 * DAY) return `${Math.floor(milliseconds / HOUR)}h`;
  return `${Math.floor(milliseconds / DAY)}d`;
}

/**
 * Milliseconds of a text such as `90s`, `30m`, `12h`, `2d`.
 *
 * @returns `undefined` for anything else.
 */
export function parseSpan(text: string): number | undefined {
  const [, count = '', unit = ''] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  return count === '' ? undefined : Number(count) * UNITS[unit as keyof typeof UNITS];
}
