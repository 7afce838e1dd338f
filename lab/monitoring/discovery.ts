/**
 * Service discovery for Prometheus: what its own discovery of pods and endpoints in Kubernetes would find, with the same
 * labels, as a list over HTTP. Debian builds Prometheus without that part.
 *
 * Run as a program: `discovery.ts KUBECONFIG PORT`; serves `/pod` and `/endpoints` on loopback.
 */
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { KubeConfig } from '@kubernetes/client-node';
import { z } from 'zod';
import { ApiClient } from '../../operator/kubernetes/api-client.ts';

const metadataSchema = z.object({
  name: z.string(),
  namespace: z.string(),
  labels: z.record(z.string(), z.string()).default({}),
});

const podSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({
    nodeName: z.string().optional(),
    containers: z.array(
      z.object({
        name: z.string(),
        ports: z.array(z.object({ name: z.string().optional(), containerPort: z.number() })).default([]),
      }),
    ),
  }),
  status: z.object({ phase: z.string().default(''), podIP: z.string().optional() }),
});

const sliceSchema = z.object({
  metadata: metadataSchema,
  ports: z.array(z.object({ name: z.string().optional(), port: z.number().optional() })).nullish(),
  endpoints: z
    .array(z.object({ targetRef: z.object({ kind: z.string(), name: z.string() }).optional() }))
    .nullish(),
});

const serviceSchema = z.object({ metadata: metadataSchema });

/** A pod as the API server shows it. */
export type Pod = z.output<typeof podSchema>;
/** A slice of a service's endpoints as the API server shows it. */
export type EndpointSlice = z.output<typeof sliceSchema>;
/** A service as the API server shows it. */
export type Service = z.output<typeof serviceSchema>;

/** One entry of Prometheus' HTTP service discovery. */
export interface TargetGroup {
  targets: string[];
  labels: Record<string, string>;
}

const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
const REQUEST_TIMEOUT_MS = 10_000;

const meta = (name: string): string => `__meta_kubernetes_${name}`;

/** Labels of an object under the names that service discovery gives them. */
function objectLabels(
  kind: 'pod' | 'service',
  labels: Readonly<Record<string, string>>,
): Record<string, string> {
  const named = Object.entries(labels).map(([name, value]) => [
    meta(`${kind}_label_${name.replaceAll(/[^a-zA-Z0-9_]/g, '_')}`),
    value,
  ]);
  return Object.fromEntries(named);
}

/** Role `pod`: one group for each port of each container. Pods without an address have nothing to scrape. */
export function podTargets(pods: readonly Pod[]): TargetGroup[] {
  return pods.flatMap(({ metadata, spec, status }) =>
    spec.containers.flatMap((container) =>
      container.ports.flatMap(({ name, containerPort }): TargetGroup[] => {
        if (status.podIP === undefined) return [];
        return [
          {
            targets: [`${status.podIP}:${containerPort}`],
            labels: {
              [meta('namespace')]: metadata.namespace,
              [meta('pod_name')]: metadata.name,
              [meta('pod_ip')]: status.podIP,
              [meta('pod_phase')]: status.phase,
              [meta('pod_node_name')]: spec.nodeName ?? '',
              [meta('pod_container_name')]: container.name,
              [meta('pod_container_port_name')]: name ?? '',
              [meta('pod_container_port_number')]: String(containerPort),
              ...objectLabels('pod', metadata.labels),
            },
          },
        ];
      }),
    ),
  );
}

/** Role `endpoints`: one group for each port of each pod behind each service. */
export function endpointTargets(
  pods: readonly Pod[],
  slices: readonly EndpointSlice[],
  services: readonly Service[],
): TargetGroup[] {
  const ofPods = podTargets(pods);
  return slices.flatMap(({ metadata, ports, endpoints }) => {
    const { namespace } = metadata;
    const name = metadata.labels[SERVICE_NAME_LABEL] ?? '';
    const service = services.find(
      (one) => one.metadata.namespace === namespace && one.metadata.name === name,
    );
    if (service === undefined) return [];
    const podNames = new Set((endpoints ?? []).flatMap(({ targetRef }) => targetRef?.name ?? []));
    return (ports ?? []).flatMap((port) =>
      ofPods
        .filter(
          ({ labels }) =>
            labels[meta('namespace')] === namespace &&
            podNames.has(labels[meta('pod_name')] ?? '') &&
            labels[meta('pod_container_port_number')] === String(port.port),
        )
        .map(({ targets, labels }) => ({
          targets,
          labels: {
            ...labels,
            [meta('endpoint_port_name')]: port.name ?? '',
            [meta('service_name')]: name,
            ...objectLabels('service', service.metadata.labels),
          },
        })),
    );
  });
}

async function discover(api: ApiClient, role: string): Promise<TargetGroup[] | undefined> {
  const list = async <T>(path: string, schema: z.ZodType<T>): Promise<T[]> => {
    const answer = await api.get(path, {}, AbortSignal.timeout(REQUEST_TIMEOUT_MS));
    return z.object({ items: z.array(schema) }).parse(answer).items;
  };
  if (role !== '/pod' && role !== '/endpoints') return undefined;
  const pods = await list('/api/v1/pods', podSchema);
  if (role === '/pod') return podTargets(pods);
  const slices = await list('/apis/discovery.k8s.io/v1/endpointslices', sliceSchema);
  return endpointTargets(pods, slices, await list('/api/v1/services', serviceSchema));
}

function serve(kubeconfig: string, port: number): void {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const api = new ApiClient(config);
  const server = createServer((request, response) => {
    discover(api, request.url ?? '').then(
      (groups) => {
        response.writeHead(groups === undefined ? 404 : 200, { 'content-type': 'application/json' });
        response.end(JSON.stringify(groups ?? []));
      },
      (error: unknown) => {
        // Prometheus keeps what it knew.
        console.error(error instanceof Error ? error.message : error);
        response.writeHead(503).end();
      },
    );
  });
  server.listen(port, '127.0.0.1');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  serve(process.argv[2] ?? '', Number(process.argv[3]));
}
