/**
 * What a guest's kernel died of, in one line, from what it wrote to its console; `undefined` if it did not die.
 */
export function kernelPanic(consoleText: string): string | undefined {
  const panic = /Kernel panic - not syncing: (.*)/.exec(consoleText)?.[1]?.trim();
  if (panic === undefined) {
    return undefined;
  }
  const cause = /\] ((?:BUG|Oops): .*)/.exec(consoleText)?.[1]?.trim();
  const place = /RIP: [0-9a-f]+:(\S+)/.exec(consoleText)?.[1];
  return [panic, cause, place === undefined ? undefined : `in ${place}`]
    .filter((part) => part !== undefined)
    .join(', ');
}
