/** Named steps with visible progress and a record of where the time went. */
import type { StepReport } from './demo-report.ts';

/** Runs steps one after the other; each prints a line when it starts and when it ends. */
export class Steps {
  readonly reports: StepReport[] = [];
  readonly #print: (line: string) => void;

  constructor(print: (line: string) => void) {
    this.#print = print;
  }

  /** Runs one step. A failure is recorded and thrown on. */
  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    const seconds = () => (performance.now() - startedAt) / 1000;
    this.#print(`▸ ${name}`);
    try {
      const value = await work();
      this.reports.push({ name, seconds: seconds(), ok: true });
      this.#print(`✔ ${name} (${seconds().toFixed(1)} s)`);
      return value;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.reports.push({ name, seconds: seconds(), ok: false, error: message });
      this.#print(`✘ ${name} (${seconds().toFixed(1)} s): ${message}`);
      throw error;
    }
  }

  /** A line about what is going on inside a step. */
  note(line: string): void {
    this.#print(`  ${line}`);
  }
}
