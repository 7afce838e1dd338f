/** What the pictures of the reports (SVG) have in common. */

/** Colour of words. */
export const INK = '#1f2328';
/** Colour of words that only explain. */
export const FAINT_INK = '#656d76';
/** Colour of lines to read values by. */
export const GRID = '#d8dee4';

const escapeXml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
/** A coordinate with one decimal. */
export const short = (value: number): string => String(Math.round(value * 10) / 10);

/** How a text looks. Default: 12 px, dark, beginning at the point. */
export interface TextOptions {
  readonly size?: number;
  readonly colour?: string;
  readonly anchor?: 'start' | 'middle' | 'end';
  readonly bold?: boolean;
}

/** Words at a point. */
export function text(x: number, y: number, words: string, options: TextOptions = {}): string {
  const { size = 12, colour = INK, anchor = 'start', bold = false } = options;
  const weight = bold ? ' font-weight="600"' : '';
  return `<text x="${short(x)}" y="${short(y)}" font-size="${size}" fill="${colour}" text-anchor="${anchor}"${weight}>${escapeXml(words)}</text>`;
}

/** The smallest of 1, 2, 5 × 10ⁿ that divides `span` into at most `parts`. */
export function niceStep(span: number, parts: number): number {
  const raw = span / parts;
  const power = 10 ** Math.floor(Math.log10(raw));
  return ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10) * power;
}
