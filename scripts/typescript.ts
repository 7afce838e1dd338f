import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { delimiter } from 'node:path';
import { lineProgress } from '../lab/progress.ts';
import { prometheusPrograms } from '../lab/setup/prometheus.ts';
import { runLogged } from './child.ts';
import { type Tally, tallyVitest } from './results.ts';
import { commandStage, type Stage } from './stages.ts';

/** Format and lint. */
export const biomeStage = commandStage('format and lint', ['biome', 'ci', '--error-on-warnings', '.'], {
  timeoutSeconds: 120,
});

/** Types of everything. */
export const typesStage = commandStage('types', ['tsc', '--noEmit'], { timeoutSeconds: 300 });

/** What is generated from the code is what is committed. */
export const generatedStage = commandStage(
  'generated files',
  [process.execPath, 'scripts/generate/main.ts', '--check'],
  { timeoutSeconds: 120 },
);

/** Brings Prometheus and promtool, with which the alerts are tested; they are on PATH for later stages. */
export const prometheusToolsStage: Stage = {
  name: 'prometheus tools',
  run: async (logFile) => {
    const directory = await prometheusPrograms(lineProgress((line) => appendFileSync(logFile, `${line}\n`)));
    if (directory !== '') process.env['PATH'] = `${process.env['PATH']}${delimiter}${directory}`;
    return { passed: 1, failed: 0 };
  },
};

/** Builds the image that the tests in the lab use: they find it made. */
export const imageStage = commandStage('image', [process.execPath, 'lab/cli.ts', 'image'], {
  timeoutSeconds: 3600,
});

/** One project of vitest.config.ts; further arguments as vitest takes them. */
export function vitestStage(
  name: string,
  project: 'unit' | 'cluster' | 'e2e',
  options: { needs?: readonly string[]; timeoutSeconds: number },
): Stage {
  return {
    name,
    needs: options.needs ?? [],
    run: async (logFile): Promise<Tally> => {
      const reportFile = `${logFile}.json`;
      const exitCode = await runLogged(
        [
          'vitest',
          'run',
          '--project',
          project,
          '--reporter=default',
          '--reporter=json',
          `--outputFile.json=${reportFile}`,
        ],
        logFile,
        { env: { NO_COLOR: '1' }, timeoutSeconds: options.timeoutSeconds },
      );
      const report = existsSync(reportFile) ? readFileSync(reportFile, 'utf8') : undefined;
      return tallyVitest(report, exitCode);
    },
  };
}
