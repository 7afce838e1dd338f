/** Debian's Prometheus as a process of the lab: its own configuration and data, on loopback only. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { planApiServer } from '../control-plane/api-server.ts';
import type { Progress } from '../progress.ts';
import { prometheusPrograms } from '../setup/prometheus.ts';
import { requireDaemon, startDaemon, stopDaemon } from '../system/daemon.ts';
import { freePorts } from '../system/ports.ts';
import { waitFor } from '../system/wait.ts';
import { type MonitoringPlan, prometheusConfiguration, ruleGroups } from './configuration.ts';

/** Name of the process in the lab. */
export const PROMETHEUS = 'prometheus';

const DISCOVERY = 'discovery';
const DISCOVERY_PROGRAM = fileURLToPath(new URL('./discovery.ts', import.meta.url));

const READY_TIMEOUT_SECONDS = 60;
const REQUEST_TIMEOUT_MS = 10_000;

/**
 * Starts Prometheus with nothing remembered, in place of one that runs.
 *
 * @returns its URL.
 */
export async function startPrometheus(options: {
  directory: string;
  /** Directory of the control plane that it looks at. */
  controlPlane: string;
  plan: MonitoringPlan;
  progress: Progress;
}): Promise<string> {
  const { directory, controlPlane, plan, progress } = options;
  await stopPrometheus(directory);
  const programs = await prometheusPrograms(progress);
  const data = join(directory, 'data');
  rmSync(data, { recursive: true, force: true });
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const apiServer = await planApiServer(controlPlane);
  const { authority } = apiServer;
  const client = await authority.issue('prometheus', {
    commonName: 'prometheus',
    organization: 'system:masters',
  });
  const [port = 0, discoveryPort = 0] = await freePorts(2);
  startDaemon({
    name: DISCOVERY,
    directory,
    log: join(directory, `${DISCOVERY}.log`),
    argv: [
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      DISCOVERY_PROGRAM,
      join(controlPlane, 'kubeconfig'),
      String(discoveryPort),
    ],
  });
  const access = {
    address: `127.0.0.1:${apiServer.port}`,
    discoveryUrl: `http://127.0.0.1:${discoveryPort}`,
    caCertificate: authority.certificate,
    ...client,
  };
  const file = (name: string, content: unknown): string => {
    const path = join(directory, name);
    writeFileSync(path, JSON.stringify(content, null, 2), { mode: 0o600 });
    return path;
  };
  const rules = file('rules.json', ruleGroups(plan));
  // JSON is YAML.
  const configuration = file('prometheus.yml', prometheusConfiguration(plan, access, rules));
  const log = join(directory, `${PROMETHEUS}.log`);
  startDaemon({
    name: PROMETHEUS,
    directory,
    log,
    argv: [
      join(programs, 'prometheus'),
      ...[`--config.file=${configuration}`, `--storage.tsdb.path=${data}`],
      ...['--storage.tsdb.retention.time=1d', `--web.listen-address=127.0.0.1:${port}`],
    ],
  });
  const url = `http://127.0.0.1:${port}`;
  writeFileSync(join(directory, 'url'), url);
  await waitFor(
    async () => {
      requireDaemon(directory, PROMETHEUS, log);
      return fetch(`${url}/-/ready`).then(
        ({ ok }) => ok,
        () => false,
      );
    },
    { what: 'Prometheus', timeoutSeconds: READY_TIMEOUT_SECONDS, log },
  );
  return url;
}

/** Ends Prometheus; its logs stay. */
export async function stopPrometheus(directory: string): Promise<void> {
  await Promise.all([PROMETHEUS, DISCOVERY].map((name) => stopDaemon(directory, name)));
}

/** The URL of the Prometheus that was started last. */
export function prometheusUrl(directory: string): string {
  return readFileSync(join(directory, 'url'), 'utf8');
}

const alertSchema = z.object({
  labels: z.record(z.string(), z.string()),
  annotations: z.record(z.string(), z.string()),
  state: z.enum(['pending', 'firing']),
});

const alertsSchema = z.object({ data: z.object({ alerts: z.array(alertSchema) }) });

const vectorSchema = z.object({
  data: z.object({
    result: z.array(
      z.object({ metric: z.record(z.string(), z.string()), value: z.tuple([z.number(), z.string()]) }),
    ),
  }),
});

/** An alert that is pending or fires. */
export type ActiveAlert = z.output<typeof alertSchema>;

/** Asks a Prometheus. */
export class PrometheusClient {
  readonly url: string;

  constructor(url: string) {
    this.url = url;
  }

  /** Every alert that is pending or fires now. */
  async alerts(): Promise<ActiveAlert[]> {
    return alertsSchema.parse(await this.#get('/api/v1/alerts')).data.alerts;
  }

  /** The value of each series of an expression now. */
  async query(expression: string): Promise<{ labels: Record<string, string>; value: number }[]> {
    const answer = await this.#get(`/api/v1/query?query=${encodeURIComponent(expression)}`);
    return vectorSchema
      .parse(answer)
      .data.result.map(({ metric, value: [, value] }) => ({ labels: metric, value: Number(value) }));
  }

  async #get(path: string): Promise<unknown> {
    const response = await fetch(`${this.url}${path}`, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }
}
