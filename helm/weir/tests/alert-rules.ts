/** The chart's alerts as tests look at them, and Prometheus' own tool to test them with. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { z } from 'zod';

const execute = promisify(execFile);

const alertDirectory = fileURLToPath(new URL('../files/alerts', import.meta.url));

/** Directory with one file of promtool's unit tests for each alert. */
export const testDirectory = fileURLToPath(new URL('./alerts', import.meta.url));

/** What promtool's tests call the file with the rules. */
const rulesFile = 'rules.json';

const alertRuleSchema = z.strictObject({
  alert: z.string(),
  expr: z.string(),
  for: z.string().optional(),
  labels: z.strictObject({ severity: z.enum(['critical', 'warning']) }),
  annotations: z.strictObject({
    summary: z.string().min(1),
    description: z.string().min(1),
    runbook_url: z.string().optional(),
  }),
});

const alertFileSchema = alertRuleSchema.extend({ window: z.string().optional() });

/** A rule as Prometheus takes it. */
export type AlertRule = z.output<typeof alertRuleSchema>;

/** A rule as a file of the chart holds it. */
export type AlertFile = z.output<typeof alertFileSchema>;

/** Every file of the chart's alerts, by its name without the ending. */
export async function readAlertFiles(): Promise<ReadonlyMap<string, AlertFile>> {
  const files = new Map<string, AlertFile>();
  for (const file of (await readdir(alertDirectory)).sort()) {
    const text = await readFile(join(alertDirectory, file), 'utf8');
    files.set(basename(file, '.yaml'), alertFileSchema.parse(parse(text)));
  }
  return files;
}

/** The rules that the chart makes of its files when its values change none. */
export function defaultRules(files: ReadonlyMap<string, AlertFile>): AlertRule[] {
  return [...files.values()].map(({ window: _, ...rule }) => ({
    ...rule,
    annotations: { ...rule.annotations, runbook_url: `docs/runbooks/${rule.alert}.md` },
  }));
}

/** Whether promtool is installed. */
export async function hasPromtool(): Promise<boolean> {
  return execute('promtool', ['--version'], { timeout: 30_000 }).then(
    () => true,
    () => false,
  );
}

/** Runs promtool's tests of these alerts against rules. Returns what it said; rejects when one failed. */
export async function testRules(rules: readonly AlertRule[], alerts: readonly string[]): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'weir-promtool-'));
  try {
    await writeFile(join(directory, rulesFile), JSON.stringify({ groups: [{ name: 'weir', rules }] }));
    const files: string[] = [];
    for (const alert of alerts) {
      const file = join(directory, `${alert}.yaml`);
      await writeFile(file, await readFile(join(testDirectory, `${alert}.yaml`)));
      files.push(file);
    }
    const { stdout } = await execute('promtool', ['test', 'rules', ...files], { timeout: 120_000 }).catch(
      (error: { stdout: string; stderr: string }) => {
        throw new Error(`${error.stdout}${error.stderr}`);
      },
    );
    return stdout;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
