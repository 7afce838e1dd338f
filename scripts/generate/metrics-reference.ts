/** The reference of metrics (docs/reference/metrics.md), written from the registries that serve them. */
import type { Registry } from 'prom-client';
import { TargetMetrics } from '../../dataplane/metrics/target-metrics.ts';
import { createOperatorMetrics } from '../../operator/observability/metrics.ts';

/** A metric as the reference tells of it. */
export interface MetricDescription {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
  readonly help: string;
}

/** Metrics of the process and of Node.js, which prom-client brings. */
const runtimeMetric = /^(process|nodejs)_/;

/** Every metric of a registry but those of the runtime, in the order in which they were made. */
export async function describeMetrics(registry: Registry): Promise<MetricDescription[]> {
  const labels = new Map(
    registry
      .getMetricsAsArray()
      // The registry holds the metrics themselves; its types promise less.
      .map((metric) => [metric.name, (metric as unknown as { labelNames: readonly string[] }).labelNames]),
  );
  const metrics = await registry.getMetricsAsJSON();
  return metrics
    .filter(({ name }) => !runtimeMetric.test(name))
    .map(({ name, help, type }) => ({ name, help, type: String(type), labels: labels.get(name) ?? [] }));
}

function table(metrics: readonly MetricDescription[]): string[] {
  const rows = metrics.map(({ name, type, labels, help }) => {
    const names = labels.map((label) => `\`${label}\``).join(', ');
    return `| \`${name}\` | ${type} | ${names} | ${help.replaceAll('|', '\\|')} |`;
  });
  return ['| Metric | Type | Labels | Meaning |', '| --- | --- | --- | --- |', ...rows, ''];
}

/** The whole page. */
export async function metricsReference(): Promise<string> {
  return [
    '# Metrics',
    '',
    'Generated from the code; `npm run generate` writes it anew. Both programs serve the usual `process_…` and',
    '`nodejs_…` metrics as well.',
    '',
    'Counters exist with 0 from the start wherever their labels are known then, so that the first event shows as an',
    'increase. They count from the start of the process.',
    '',
    '## Dataplane',
    '',
    '`target` is `NAMESPACE/NAME` of the NvmeofTarget, `node` the name of the node, `listener` the name of the listener in',
    'the specification, `device` the RDMA device.',
    '',
    ...table(await describeMetrics(new TargetMetrics().registry)),
    '## Operator',
    '',
    'Where controllers commonly have a metric, the name is theirs: existing dashboards work.',
    '',
    ...table(await describeMetrics(createOperatorMetrics([]).registry)),
  ].join('\n');
}
