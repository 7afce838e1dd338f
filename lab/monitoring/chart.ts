import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import { run } from '../system/command.ts';

const CHART = fileURLToPath(new URL('../../helm/weir', import.meta.url));
const RENDER_TIMEOUT_SECONDS = 60;

/** The kinds of Prometheus Operator, which the lab does not run: helm has to be told that they are there. */
const KINDS = ['PodMonitor', 'ServiceMonitor', 'PrometheusRule'];

/** Renders the chart's monitors and rules as a cluster with Prometheus Operator would get them. */
export async function renderMonitoring(
  helm: string,
  namespace: string,
  values: Readonly<Record<string, string>> = {},
): Promise<unknown[]> {
  const text = await run(
    [
      ...([helm, 'template', 'weir', CHART, '--namespace', namespace] as const),
      ...['--kube-version', '1.36.0'],
      ...KINDS.flatMap((kind) => ['--api-versions', `monitoring.coreos.com/v1/${kind}`]),
      ...Object.entries(values).map(([key, value]) => `--set=${key}=${value}`),
    ],
    { timeoutSeconds: RENDER_TIMEOUT_SECONDS },
  );
  const documents = parseAllDocuments(text).map((document): unknown => document.toJS());
  return documents.filter((document) =>
    KINDS.includes(String((document as { kind?: unknown } | null)?.kind)),
  );
}
