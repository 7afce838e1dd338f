import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The root of this clone. */
export const repositoryRoot = dirname(dirname(fileURLToPath(import.meta.url)));

/** How many runs' logs are kept for each command. */
const keptLogRuns = 10;

/** What can be made again and is worth keeping between clones: `$XDG_CACHE_HOME/weir` or `~/.cache/weir`. */
export function cacheDirectory(): string {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'weir');
}

/**
 * Where cargo builds. Outside the clone, so that a fresh clone on the same machine builds warm.
 * `CARGO_TARGET_DIR` wins.
 */
export function cargoTargetDirectory(): string {
  return process.env['CARGO_TARGET_DIR'] || join(cacheDirectory(), 'cargo-target');
}

/** The built native core, where the dataplane looks for it by default. */
export const nativeLibraryPath = join(repositoryRoot, 'dist/native/libweir_core.so');

/** Makes the directory for the logs of one run of `command`, and removes those of runs long past. */
export function makeLogDirectory(command: string, now: Date): string {
  const parent = join(process.env['XDG_STATE_HOME'] || join(homedir(), '.local/state'), 'weir/logs', command);
  const directory = join(parent, now.toISOString().replaceAll(':', '-'));
  mkdirSync(directory, { recursive: true });
  for (const old of readdirSync(parent).sort().slice(0, -keptLogRuns)) {
    rmSync(join(parent, old), { recursive: true, force: true });
  }
  return directory;
}
