import { mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/**
 * Where the lab keeps its things. Nothing is kept in the clone:
 * - the cache holds what is costly to make and never changes (binaries, guest disks), named by content key;
 * - the run directory holds one lab while it is up (pids, sockets, certificates, logs).
 *
 * Both follow the XDG base directory specification. `WEIR_LAB` names the lab, so that two can run beside
 * each other on one machine.
 */
export const LAB_NAME_DEFAULT = 'default';

/** The cache directory, made if it is missing. */
export function cacheDirectory(...parts: string[]): string {
  const base = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return made(join(base, 'weir', ...parts));
}

/** The run directory of this lab, made if it is missing. */
export function runDirectory(...parts: string[]): string {
  const base = process.env['XDG_STATE_HOME'] || join(homedir(), '.local', 'state');
  const name = process.env['WEIR_LAB'] || LAB_NAME_DEFAULT;
  return made(join(base, 'weir', 'lab', name, ...parts));
}

function made(directory: string): string {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return directory;
}
