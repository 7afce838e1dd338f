/** A time as MicroTime demands: a plain ISO date is refused. */
export function microTime(date: Date): string {
  return date.toISOString().replace('Z', '000Z');
}
