/**
 * Prometheus' configuration from the monitors of a chart, as Prometheus Operator would make it, but for the way: this
 * machine has none to pods, so every scrape goes through the API server's proxy.
 */
import { z } from 'zod';

/** How often Prometheus asks for new pods. */
const DISCOVERY_INTERVAL = '2s';

const endpointSchema = z.object({
  port: z.string(),
  interval: z.string(),
  honorLabels: z.boolean().default(false),
});

const selectorSchema = z.object({ matchLabels: z.record(z.string(), z.string()) });

const metadataSchema = z.object({ name: z.string(), namespace: z.string() });

const manifestSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('PodMonitor'),
    metadata: metadataSchema,
    spec: z.object({
      namespaceSelector: z.object({ any: z.literal(true) }),
      selector: selectorSchema,
      podMetricsEndpoints: z.array(endpointSchema),
    }),
  }),
  z.object({
    kind: z.literal('ServiceMonitor'),
    metadata: metadataSchema,
    spec: z.object({ selector: selectorSchema, endpoints: z.array(endpointSchema) }),
  }),
  z.object({
    kind: z.literal('PrometheusRule'),
    metadata: metadataSchema,
    spec: z.object({ groups: z.array(z.looseObject({ name: z.string(), rules: z.array(z.unknown()) })) }),
  }),
]);

type Manifest = z.output<typeof manifestSchema>;
type Endpoint = z.output<typeof endpointSchema>;

/** Something on a node that no monitor knows: a process of the node's own that serves metrics. */
export interface NodeEndpoint {
  job: string;
  node: string;
  /** It must listen on the node's address, not only on loopback. */
  port: number;
}

/** How the API server is reached. Paths of PEM files. */
export interface ApiServerAccess {
  /** URL of the service discovery; see discovery.ts. */
  discoveryUrl: string;
  /** `host:port` */
  address: string;
  caCertificate: string;
  certificate: string;
  key: string;
}

/** What Prometheus is to look at. */
export interface MonitoringPlan {
  /** Documents of a rendered chart; kinds other than monitors and rules are left out. */
  manifests: readonly unknown[];
  nodeEndpoints: readonly NodeEndpoint[];
  /** How often rules are evaluated, and node endpoints scraped; for example `2s`. */
  interval: string;
}

type Relabeling = Record<string, unknown>;

const keep = (label: string, value: string): Relabeling => ({
  action: 'keep',
  source_labels: [label],
  regex: value,
});
const copy = (from: string, to: string): Relabeling => ({ source_labels: [from], target_label: to });
const set = (to: string, value: string): Relabeling => ({ target_label: to, replacement: value });

/** A label of an object as service discovery calls it. */
const metaLabel = (kind: 'pod' | 'service', label: string): string =>
  `__meta_kubernetes_${kind}_label_${label.replaceAll(/[^a-zA-Z0-9_]/g, '_')}`;

const podPort = '__meta_kubernetes_pod_container_port_number';

/** The last steps of every scrape of a pod: what it is called, and the way through the API server. */
function throughApiServer(address: string, job: string, endpoint: string): Relabeling[] {
  return [
    { action: 'drop', source_labels: ['__meta_kubernetes_pod_phase'], regex: 'Failed|Succeeded' },
    copy('__meta_kubernetes_namespace', 'namespace'),
    copy('__meta_kubernetes_pod_name', 'pod'),
    copy('__meta_kubernetes_pod_container_name', 'container'),
    set('endpoint', endpoint),
    set('job', job),
    {
      source_labels: ['__meta_kubernetes_pod_ip', podPort],
      separator: ':',
      target_label: 'instance',
    },
    {
      source_labels: ['__meta_kubernetes_namespace', '__meta_kubernetes_pod_name', podPort],
      separator: ';',
      regex: '(.+);(.+);(.+)',
      target_label: '__metrics_path__',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: Prometheus fills it in.
      replacement: '/api/v1/namespaces/${1}/pods/${2}:${3}/proxy/metrics',
    },
    set('__address__', address),
  ];
}

function scrapeOf(
  manifest: Extract<Manifest, { kind: 'PodMonitor' | 'ServiceMonitor' }>,
  endpoint: Endpoint,
  access: ApiServerAccess,
): Record<string, unknown> {
  const { kind, metadata, spec } = manifest;
  const isPod = kind === 'PodMonitor';
  const job = `${metadata.namespace}/${metadata.name}`;
  return {
    job_name: `${isPod ? 'podMonitor' : 'serviceMonitor'}/${job}/${endpoint.port}`,
    scrape_interval: endpoint.interval,
    honor_labels: endpoint.honorLabels,
    ...tls(access),
    http_sd_configs: [
      { url: `${access.discoveryUrl}/${isPod ? 'pod' : 'endpoints'}`, refresh_interval: DISCOVERY_INTERVAL },
    ],
    relabel_configs: [
      // A ServiceMonitor looks at its own namespace, this PodMonitor at any.
      ...(isPod ? [] : [keep('__meta_kubernetes_namespace', metadata.namespace)]),
      ...Object.entries(spec.selector.matchLabels).map(([label, value]) =>
        keep(metaLabel(isPod ? 'pod' : 'service', label), value),
      ),
      keep(
        isPod ? '__meta_kubernetes_pod_container_port_name' : '__meta_kubernetes_endpoint_port_name',
        endpoint.port,
      ),
      ...throughApiServer(access.address, job, endpoint.port),
    ],
  };
}

function tls(access: ApiServerAccess): Record<string, unknown> {
  return {
    scheme: 'https',
    tls_config: { ca_file: access.caCertificate, cert_file: access.certificate, key_file: access.key },
  };
}

function nodeScrape(endpoint: NodeEndpoint, access: ApiServerAccess): Record<string, unknown> {
  const { job, node, port } = endpoint;
  return {
    job_name: job,
    honor_labels: true,
    metrics_path: `/api/v1/nodes/${node}:${port}/proxy/metrics`,
    ...tls(access),
    static_configs: [{ targets: [access.address], labels: { instance: `${node}:${port}` } }],
  };
}

/** The monitors and rules of a rendered chart. */
function monitoringOf(manifests: readonly unknown[]): Manifest[] {
  const kinds = new Set(['PodMonitor', 'ServiceMonitor', 'PrometheusRule']);
  return manifests
    .filter((manifest) => kinds.has(String((manifest as { kind?: unknown } | null)?.kind)))
    .map((manifest) => manifestSchema.parse(manifest));
}

/** The groups of rules, as a file for Prometheus. */
export function ruleGroups({ manifests }: MonitoringPlan): { groups: unknown[] } {
  return {
    groups: monitoringOf(manifests).flatMap((one) => (one.kind === 'PrometheusRule' ? one.spec.groups : [])),
  };
}

/** The whole configuration; `rulesFile` holds what {@link ruleGroups} gives. */
export function prometheusConfiguration(
  plan: MonitoringPlan,
  access: ApiServerAccess,
  rulesFile: string,
): Record<string, unknown> {
  const monitors = monitoringOf(plan.manifests).flatMap((manifest) => {
    if (manifest.kind === 'PrometheusRule') return [];
    const endpoints =
      manifest.kind === 'PodMonitor' ? manifest.spec.podMetricsEndpoints : manifest.spec.endpoints;
    return endpoints.map((endpoint) => scrapeOf(manifest, endpoint, access));
  });
  return {
    global: {
      scrape_interval: plan.interval,
      scrape_timeout: plan.interval,
      evaluation_interval: plan.interval,
    },
    rule_files: [rulesFile],
    scrape_configs: [...monitors, ...plan.nodeEndpoints.map((endpoint) => nodeScrape(endpoint, access))],
  };
}
