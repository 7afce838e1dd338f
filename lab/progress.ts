/** Tells a person what is being done and how long it took; one line per step, so that it reads well in a log. */
export interface Progress {
  /** Runs the work under a title; the title appears when it starts, the time when it ends. */
  step<T>(title: string, work: () => Promise<T>): Promise<T>;
  /** A line of its own. */
  note(line: string): void;
}

/** A step that takes longer than this says so again and again, so that nobody takes it for hung. */
const REMINDER_INTERVAL_MS = 30_000;

/** Writes each step to a line sink. */
export function lineProgress(write: (line: string) => void): Progress {
  return {
    async step(title, work) {
      const started = Date.now();
      const elapsed = (): string => `${((Date.now() - started) / 1000).toFixed(1)} s`;
      write(`… ${title}`);
      const reminder = setInterval(
        () => write(`… ${title}: still at it after ${elapsed()}`),
        REMINDER_INTERVAL_MS,
      );
      try {
        const result = await work();
        write(`✔ ${title} (${elapsed()})`);
        return result;
      } catch (error) {
        write(`✘ ${title} (${elapsed()}): ${error instanceof Error ? error.message : String(error)}`);
        throw error;
      } finally {
        clearInterval(reminder);
      }
    },
    note: write,
  };
}

/** Says nothing. */
export const silentProgress: Progress = { step: (_title, work) => work(), note: () => {} };
