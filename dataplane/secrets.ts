/** Follows the keys of hosts: what changes in a mounted Secret holds for new connections. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type FileWatch, watchFile } from '../operator/system/watch-file.ts';
import type { Dataplane } from './dataplane.ts';

/** Follows the keys of hosts until it is closed. */
export interface SecretsWatch {
  close(): void;
}

/**
 * Has the core read the keys anew whenever something changes in the directory or in one of its directories. The core
 * compares; nothing changes for hosts whose key is the same.
 *
 * @param directory has a directory for each Secret.
 */
export function watchSecrets(directory: string, dataplane: Dataplane, logger: Logger): SecretsWatch {
  const watches = new Map<string, FileWatch>();
  const follow = (watched: string): void => {
    // The directory of the file is what is watched: kubelet swaps links in it.
    if (!watches.has(watched)) watches.set(watched, watchFile(join(watched, 'hostKey'), changed));
  };
  const followAll = (): void => {
    follow(directory);
    for (const name of secretsIn(directory, logger)) follow(join(directory, name));
  };
  function changed(): void {
    followAll();
    try {
      dataplane.reapply();
      logger.info({ directory }, 'the keys of hosts were read anew');
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      logger.error({ directory }, `the keys of hosts were not read anew: ${message}`);
    }
  }
  followAll();
  return {
    close: () => {
      for (const watch of watches.values()) watch.close();
    },
  };
}

function secretsIn(directory: string, logger: Logger): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    logger.error({ directory }, `the directory of Secrets cannot be read: ${message}`);
    return [];
  }
}
