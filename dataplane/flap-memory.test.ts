import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { z } from 'zod';

const { dataplaneV8Flags } = z
  .object({ dataplaneV8Flags: z.array(z.string()) })
  .parse(createRequire(import.meta.url)('../bin/dataplane-v8-flags.js'));

/** A flap has some twenty events, and one kept would be hundreds of bytes. */
const BYTES_PER_FLAP_MAX = 64;
const FLAPS_PER_LINE = 60;
/** What is made when something happens for the first time is made by then. */
const WARM_UP_LINES = 3;
const LINES = 7;

it('keeps nothing of a flap in memory', { timeout: 120_000 }, async () => {
  const program = fileURLToPath(new URL('testing/flap-loop.ts', import.meta.url));
  const argv = [...dataplaneV8Flags, program, String(FLAPS_PER_LINE), String(LINES)];
  const { stdout } = await promisify(execFile)(process.execPath, argv);
  const inUse = stdout.trim().split('\n').map(Number);
  expect(inUse).toHaveLength(LINES);
  const settled = inUse.slice(WARM_UP_LINES);
  const growth = (settled.at(-1) ?? Number.NaN) - (settled[0] ?? Number.NaN);
  expect(growth / ((settled.length - 1) * FLAPS_PER_LINE)).toBeLessThan(BYTES_PER_FLAP_MAX);
});
