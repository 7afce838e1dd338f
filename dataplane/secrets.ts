/** Follows the keys of hosts: what changes in a mounted Secret holds for new connections. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { watchFile } from '../operator/system/watch-file.ts';
import type { Dataplane } from './dataplane.ts';

/** Follows the keys of hosts until it is closed. */
export interface SecretsWatch {
  close(): void;
}

/**
 * Has the core read the keys anew whenever something changes in the directories that are there now: a Secret that is
 * mounted later comes with a new pod. The core compares; nothing changes for those whose key is the same.
 *
 * @param directory has a directory for each Secret.
 */
export function watchSecrets(directory: string, dataplane: Dataplane, logger: Logger): SecretsWatch {
  const changed = (): void => {
    try {
      dataplane.reapply();
      logger.info({ directory }, 'the keys of hosts were read anew');
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      logger.error({ directory }, `the keys of hosts were not read anew: ${message}`);
    }
  };
  // The directory of a file is what is watched: kubelet swaps links in it.
  const watches = secretsIn(directory, logger).map((name) =>
    watchFile(join(directory, name, 'hostKey'), changed),
  );
  return {
    close: () => {
      for (const watch of watches) watch.close();
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
