import { join } from 'node:path';
import { lastLine, runLogged, tail } from './child.ts';
import { addTallies, type Tally, tallyStep } from './results.ts';

/** One stage of `check` or `test`. */
export interface Stage {
  /** Unique in the run; also names the log file. */
  name: string;
  /** Names of stages that must have passed; else this one counts as one failure without being run. */
  needs?: readonly string[];
  /** Does the work, with all output in `logFile`. A rejection counts as one failure. */
  run(logFile: string): Promise<Tally>;
}

/** How one stage ended. */
export interface StageResult {
  name: string;
  tally: Tally;
  seconds: number;
  logFile: string;
}

/** How often a line is printed about a stage that goes on. */
const heartbeatSeconds = 20;

/** How much of a failed stage's log is shown. */
const shownLogBytes = 6000;

/** A stage that is one command and one test: it passes if the command exits with 0. */
export function commandStage(
  name: string,
  argv: readonly string[],
  options: { needs?: readonly string[]; env?: Record<string, string>; timeoutSeconds: number },
): Stage {
  return {
    name,
    needs: options.needs ?? [],
    run: async (logFile) => tallyStep(await runLogged(argv, logFile, options)),
  };
}

/**
 * Runs lanes of stages beside each other and the stages of a lane one after the other. Prints one line when a
 * stage starts, one when it ends, and now and then one that says what it is doing. Once `signal` is aborted no other
 * stage begins.
 */
export async function runLanes(
  lanes: readonly (readonly Stage[])[],
  logDirectory: string,
  earlier: readonly StageResult[] = [],
  signal?: AbortSignal,
): Promise<StageResult[]> {
  const results: StageResult[] = [...earlier];
  await Promise.all(
    lanes.map(async (lane) => {
      for (const stage of lane) results.push(await runStage(stage, results, logDirectory, signal));
    }),
  );
  return results;
}

/** Prints where the time went and the closing line. Returns the exit status of the run. */
export function closeRun(results: readonly StageResult[], logDirectory: string): number {
  const total = addTallies(results.map((result) => result.tally));
  const names = results.flatMap(({ name, tally }) => [
    name.length,
    ...(tally.slowest ?? []).map((file) => file.name.length + 2),
  ]);
  const width = Math.max(0, ...names);
  console.log('');
  const line = (name: string, seconds: number): string =>
    `  ${name.padEnd(width)}  ${seconds.toFixed(1).padStart(7)} s`;
  for (const result of results) {
    const { passed, failed, slowest } = result.tally;
    const verdict = failed > 0 ? `${passed} passed, ${failed} FAILED` : `${passed} passed`;
    console.log(`${line(result.name, result.seconds)}  ${verdict}`);
    for (const file of slowest ?? []) console.log(line(`  ${file.name}`, file.seconds));
  }
  console.log(`\nlogs: ${logDirectory}`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0 && total.passed > 0 ? 0 : 1;
}

async function runStage(
  stage: Stage,
  done: readonly StageResult[],
  logDirectory: string,
  signal: AbortSignal | undefined,
): Promise<StageResult> {
  const logFile = join(logDirectory, `${stage.name.replaceAll(/[^a-z0-9]+/gi, '-')}.log`);
  const started = performance.now();
  const elapsed = (): number => (performance.now() - started) / 1000;
  const notRun = (why: string): StageResult => {
    console.log(`✗ ${stage.name}: not run, ${why}`);
    return { name: stage.name, tally: { passed: 0, failed: 1 }, seconds: 0, logFile };
  };

  const broken = stage.needs?.find((name) => done.every((it) => it.name !== name || it.tally.failed > 0));
  if (broken !== undefined) {
    return notRun(`because "${broken}" did not pass`);
  }
  if (signal?.aborted === true) return notRun('because the run was told to end');

  console.log(`▸ ${stage.name} …`);
  const heartbeat = setInterval(() => {
    console.log(`  ${stage.name}: ${elapsed().toFixed(0)} s … ${lastLine(logFile, 100)}`);
  }, heartbeatSeconds * 1000);
  let tally: Tally;
  let reason = '';
  try {
    tally = await stage.run(logFile);
  } catch (error) {
    tally = { passed: 0, failed: 1 };
    reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
  } finally {
    clearInterval(heartbeat);
  }

  const seconds = elapsed();
  if (tally.failed === 0) {
    console.log(`✓ ${stage.name}: ${tally.passed} passed (${seconds.toFixed(1)} s)`);
  } else {
    console.log(tail(logFile, shownLogBytes).trimEnd());
    if (reason !== '') console.log(reason);
    console.log(
      `✗ ${stage.name}: ${tally.passed} passed, ${tally.failed} failed (${seconds.toFixed(1)} s); log: ${logFile}`,
    );
  }
  return { name: stage.name, tally, seconds, logFile };
}
