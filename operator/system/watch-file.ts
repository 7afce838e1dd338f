import { type FSWatcher, watch } from 'node:fs';
import { dirname } from 'node:path';

/** How long a directory must be quiet: editors write, rename and touch in quick succession. */
const quietMilliseconds = 200;

/** How soon a watch that broke (the directory was replaced) is tried again. */
const retryMilliseconds = 2000;

/** A watch that can be ended. */
export interface FileWatch {
  close(): void;
}

/**
 * Calls `changed` after something happened in the file's directory. The directory is watched and not the file,
 * because editors replace files by renaming others over them, and Kubernetes swaps a link beside them. So it is
 * called for other files' changes too: the caller compares the content.
 */
export function watchFile(path: string, changed: () => void): FileWatch {
  let watcher: FSWatcher | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  const schedule = (): void => {
    clearTimeout(timer);
    timer = setTimeout(changed, quietMilliseconds);
  };
  const start = (): void => {
    if (closed) return;
    try {
      watcher = watch(dirname(path), { persistent: false }, schedule);
      watcher.on('error', restart);
    } catch {
      restart();
    }
  };
  const restart = (): void => {
    watcher?.close();
    setTimeout(() => {
      start();
      // What happened in between was not seen.
      schedule();
    }, retryMilliseconds).unref();
  };

  start();
  return {
    close: () => {
      closed = true;
      clearTimeout(timer);
      watcher?.close();
    },
  };
}
