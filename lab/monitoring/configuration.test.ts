import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { type MonitoringPlan, prometheusConfiguration, ruleGroups } from './configuration.ts';

const execute = promisify(execFile);

const access = {
  address: '127.0.0.1:6443',
  discoveryUrl: 'http://127.0.0.1:9999',
  caCertificate: '/lab/ca.crt',
  certificate: '/lab/prometheus.crt',
  key: '/lab/prometheus.key',
};
const metadata = { name: 'weir', namespace: 'weir-system' };
const plan: MonitoringPlan = {
  interval: '2s',
  nodeEndpoints: [{ job: 'standalone', node: 'node-a', port: 9900 }],
  manifests: [
    null,
    { kind: 'Deployment', metadata },
    {
      kind: 'PodMonitor',
      metadata,
      spec: {
        namespaceSelector: { any: true },
        selector: { matchLabels: { 'app.kubernetes.io/name': 'weir-dataplane' } },
        podMetricsEndpoints: [{ port: 'metrics', interval: '30s', honorLabels: true }],
      },
    },
    {
      kind: 'ServiceMonitor',
      metadata,
      spec: {
        selector: { matchLabels: { app: 'operator' } },
        endpoints: [{ port: 'metrics', interval: '30s' }],
      },
    },
    {
      kind: 'PrometheusRule',
      metadata,
      spec: { groups: [{ name: 'weir', rules: [{ alert: 'A', expr: 'up == 0' }] }] },
    },
  ],
};

interface Scrape {
  job_name: string;
  honor_labels: boolean;
  metrics_path?: string;
  http_sd_configs?: { url: string }[];
  relabel_configs?: Record<string, unknown>[];
}

const scrapes = prometheusConfiguration(plan, access, '/lab/rules.json')['scrape_configs'] as Scrape[];

describe('the configuration of Prometheus', () => {
  it('follows the monitors: which pods, which port, whose labels win', () => {
    expect(scrapes).toMatchObject([
      {
        job_name: 'podMonitor/weir-system/weir/metrics',
        honor_labels: true,
        http_sd_configs: [{ url: 'http://127.0.0.1:9999/pod' }],
      },
      { job_name: 'serviceMonitor/weir-system/weir/metrics', honor_labels: false },
      { job_name: 'standalone' },
    ]);
    expect(scrapes[0]?.relabel_configs).toContainEqual({
      action: 'keep',
      source_labels: ['__meta_kubernetes_pod_label_app_kubernetes_io_name'],
      regex: 'weir-dataplane',
    });
    expect(scrapes[1]?.relabel_configs).toContainEqual({
      action: 'keep',
      source_labels: ['__meta_kubernetes_service_label_app'],
      regex: 'operator',
    });
  });

  it('goes through the API server, to pods and to nodes', () => {
    for (const scrape of scrapes.slice(0, 2)) {
      expect(scrape.relabel_configs?.at(-1)).toEqual({
        target_label: '__address__',
        replacement: access.address,
      });
    }
    expect(scrapes[2]?.metrics_path).toBe('/api/v1/nodes/node-a:9900/proxy/metrics');
  });

  it('takes the rules as they are', () => {
    expect(ruleGroups(plan)).toEqual({
      groups: [{ name: 'weir', rules: [{ alert: 'A', expr: 'up == 0' }] }],
    });
  });

  it('is one that Prometheus understands', async ({ skip }) => {
    const found = await execute('promtool', ['--version']).catch(() => undefined);
    if (found === undefined) skip();
    const directory = mkdtempSync(join(tmpdir(), 'weir-prometheus-'));
    try {
      const write = (name: string, content: unknown): string => {
        const path = join(directory, name);
        writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
        return path;
      };
      const files = Object.fromEntries(
        (['caCertificate', 'certificate', 'key'] as const).map((name) => [name, write(name, '')]),
      );
      const rules = write('rules.json', ruleGroups(plan));
      const file = write('prometheus.yml', prometheusConfiguration(plan, { ...access, ...files }, rules));
      const { stdout } = await execute('promtool', ['check', 'config', '--syntax-only', file]);
      expect(stdout).toContain('SUCCESS');
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
