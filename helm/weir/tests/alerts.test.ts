import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { TargetMetrics } from '../../../dataplane/metrics/target-metrics.ts';
import { createOperatorMetrics } from '../../../operator/observability/metrics.ts';
import { describeMetrics } from '../../../scripts/generate/metrics-reference.ts';
import { defaultRules, hasPromtool, readAlertFiles, testDirectory, testRules } from './alert-rules.ts';

const runbookDirectory = fileURLToPath(new URL('../../../docs/runbooks', import.meta.url));
const files = await readAlertFiles();
const alerts = [...files.keys()];
const promtool = await hasPromtool();
const runbook = (name: string) => readFile(join(runbookDirectory, `${name}.md`), 'utf8');

interface PromtoolTests {
  tests: { name?: string; alert_rule_test: { alertname: string; exp_alerts?: unknown[] }[] }[];
}

describe('the alerts', () => {
  it('have the names of their files', () => {
    expect([...files.values()].map(({ alert }) => alert)).toEqual(alerts);
  });

  it('look at metrics that exist, by labels that these have', async () => {
    const registries = [new TargetMetrics().registry, createOperatorMetrics([]).registry];
    const metrics = (await Promise.all(registries.map(describeMetrics))).flat();
    const labelsOf = new Map(metrics.map(({ name, labels }) => [name, labels]));
    for (const { alert, expr } of files.values()) {
      const selectors = [...expr.matchAll(/\b([a-z_]+_[a-z_]+)(\{[^}]*\})?/g)].filter(
        ([, name = '']) => !['group_left', 'group_right'].includes(name),
      );
      expect(selectors, alert).not.toEqual([]);
      for (const [, name = '', matchers = ''] of selectors) {
        expect(labelsOf.has(name), `${alert}: ${name}`).toBe(true);
        for (const [, label = ''] of matchers.matchAll(/([a-z_]+)\s*=/g)) {
          expect(labelsOf.get(name), `${alert}: ${name}`).toContain(label);
        }
      }
    }
  });

  it('name the range that they look back over, if they do', () => {
    for (const { alert, expr, window } of files.values()) {
      const ranges = new Set([...expr.matchAll(/\[([^\]]+)\]/g)].map(([, range]) => range));
      expect([...ranges], alert).toEqual(window === undefined ? [] : [window]);
    }
  });

  it('have a test each that fires, one that is over, and one of a restart', async () => {
    expect((await readdir(testDirectory)).map((file) => basename(file, '.yaml')).sort()).toEqual(alerts);
    for (const alert of alerts) {
      const text = await readFile(join(testDirectory, `${alert}.yaml`), 'utf8');
      const { tests } = parse(text) as PromtoolTests;
      const checks = tests.flatMap(({ alert_rule_test }) => alert_rule_test);
      expect(new Set(checks.map(({ alertname }) => alertname)), alert).toEqual(new Set([alert]));
      const restarts = tests.filter(({ name }) => name?.includes('restart'));
      expect(restarts, `${alert}: a test with "restart" in its name`).not.toEqual([]);
      expect(
        checks.some(({ exp_alerts = [] }) => exp_alerts.length > 0),
        `${alert} fires`,
      ).toBe(true);
      const clears = tests.some(({ alert_rule_test: steps }) => {
        const fired = steps.findIndex(({ exp_alerts = [] }) => exp_alerts.length > 0);
        return fired !== -1 && steps.slice(fired).some(({ exp_alerts = [] }) => exp_alerts.length === 0);
      });
      expect(clears, `${alert} clears`).toBe(true);
    }
  });

  it.skipIf(!promtool)('do what their tests say', async () => {
    expect(await testRules(defaultRules(files), alerts)).toContain('SUCCESS');
  });
});

describe('the runbooks', () => {
  it('are one for each alert', async () => {
    const names = (await readdir(runbookDirectory)).map((file) => basename(file, '.md'));
    expect(names.filter((name) => name !== 'README').sort()).toEqual(alerts);
  });

  it('each say what it means, what it does to whom, how to find the cause, and what to do', async () => {
    for (const alert of alerts) {
      const text = await runbook(alert);
      expect(text.startsWith(`# ${alert}\n`), alert).toBe(true);
      const headings = [...text.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
      expect(headings, alert).toEqual(['Meaning', 'Impact', 'Diagnosis', 'Mitigation']);
      expect(text.split('## Diagnosis')[1], `${alert}: a command to run`).toContain('```');
    }
  });

  it('are listed with their severity and defaults', async () => {
    const index = await runbook('README');
    const rows = [...index.matchAll(/^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \| ([^|]*) \| ([^|]*) \|/gm)].map(
      ([, name, link, severity, waits, window]) => [name, link, severity, waits?.trim(), window?.trim()],
    );
    const expected = [...files.values()].map((rule) => [
      rule.alert,
      rule.alert,
      rule.labels.severity,
      rule.for ?? '',
      rule.window ?? '',
    ]);
    expect(rows.sort()).toEqual(expected.sort());
  });
});
