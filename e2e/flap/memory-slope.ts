/**
 * Does anonymous memory grow from flap to flap? Pages of files are left out: of the program itself ever more are
 * touched as its rarer paths run, and the kernel drops them when it wants the room.
 */
import { fitSlope } from './line-fit.ts';
import type { MemorySlope } from './report.ts';

/** Fewer say nothing: a process that is at work for the first time grows for a while. */
export const FLAPS_MIN = 300;
const WARM_UP_FLAPS = 100;
/**
 * Garbage is collected once in many flaps, and memory falls then: neighbouring flaps are no independent measurements,
 * and a line through all of them would be far too sure of itself. The means of long blocks nearly are.
 */
const BLOCKS = 18;

/** Fits a line through anonymous memory after each flap; `undefined` for too few of them. */
export function memorySlope(anonymousKiB: readonly number[]): MemorySlope | undefined {
  if (anonymousKiB.length < FLAPS_MIN) return undefined;
  const flapsPerBlock = Math.floor((anonymousKiB.length - WARM_UP_FLAPS) / BLOCKS);
  // What does not fill a block is left out at the beginning, too.
  const warmUpFlaps = anonymousKiB.length - flapsPerBlock * BLOCKS;
  const means = Array.from({ length: BLOCKS }, (_, block) => {
    const begin = warmUpFlaps + block * flapsPerBlock;
    const values = anonymousKiB.slice(begin, begin + flapsPerBlock);
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  });
  const slope = fitSlope(means);
  if (slope === undefined) return undefined;
  return {
    kibPerFlap: slope.perStep / flapsPerBlock,
    halfWidth: slope.halfWidth / flapsPerBlock,
    warmUpFlaps,
    flapsPerBlock,
    blocks: BLOCKS,
  };
}
