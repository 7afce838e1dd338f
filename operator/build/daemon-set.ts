/** The pods of a target: one on each selected node. */
import { createHash } from 'node:crypto';
import { DHCHAP_SECRET_KEYS, dhchapSecrets } from '../../crds/access.ts';
import { GROUP } from '../../crds/api-group.ts';
import { isOnHostNetwork } from '../../crds/network.ts';
import type { NvmeofTargetSpec } from '../../crds/nvmeof-target.ts';
import { childName } from '../../crds/object-names.ts';
import { compareQuantities } from '../../crds/scheduling.ts';
import type { AppliedObject } from '../kubernetes/object.ts';
import type { DataplaneSettings } from '../settings.ts';
import { childLabels, childMetadata, selectorLabels, type TargetIdentity } from './child.ts';
import { claimVolumes } from './claim-volumes.ts';
import { podResourceClaims, RDMA_CLAIM } from './resource-claim-template.ts';
import { hostMounts } from './volumes.ts';

/** Annotation of the pod template: a pod whose value differs from its DaemonSet's is outdated. */
export const TEMPLATE_HASH_ANNOTATION = `${GROUP}/template-hash`;

/** Annotation of the DaemonSet: the port of the node that its pods serve metrics and health on; absent off the host network. */
export const METRICS_PORT_ANNOTATION = `${GROUP}/metrics-port`;

const DATAPLANE_COMMAND = '/opt/weir/bin/weir-dataplane';

/** Beyond the drain itself: telling hosts, closing backends, the last status. */
const GRACE_MARGIN_SECONDS = 15;

/**
 * Upper bounds of the drain, of which the pod gets the next one up: the dataplane leaves by itself when its drain is
 * over, and tuning the drain timeout within a step does not replace pods.
 */
const GRACE_STEPS_SECONDS = [60, 300] as const;

function terminationGraceSeconds(drainTimeoutSeconds: number): number {
  const step = GRACE_STEPS_SECONDS.find((seconds) => drainTimeoutSeconds <= seconds) ?? drainTimeoutSeconds;
  return step + GRACE_MARGIN_SECONDS;
}

function resources(spec: NvmeofTargetSpec, settings: DataplaneSettings) {
  const device = settings.deviceAccess === 'DevicePlugin' ? { [settings.deviceResource]: '1' } : {};
  const { limits } = spec.resources;
  const defaults = Object.entries(settings.requests).map(([name, request]) => {
    const limit = limits[name];
    // A request above its limit is refused with the whole pod.
    return [name, limit !== undefined && compareQuantities(limit, request) < 0 ? limit : request];
  });
  return {
    requests: { ...Object.fromEntries(defaults), ...spec.resources.requests, ...device },
    limits: { ...spec.resources.limits, ...device },
    ...(settings.deviceAccess === 'ResourceClaim' ? { claims: [{ name: RDMA_CLAIM }] } : {}),
  };
}

function seccompProfile(profile: string) {
  const [type, ...path] = profile.split('/');
  return path.length === 0 ? { type } : { type, localhostProfile: path.join('/') };
}

/** Where the dataplane leaves notes for its next start: it outlives the container, and goes with the pod. */
const STATE_DIRECTORY = '/var/lib/weir-state';
const STATE_VOLUME = 'state';

function recreatesSoftDevice(spec: NvmeofTargetSpec): boolean {
  return spec.link.recreateSoftDevice !== 'Never';
}

/** Root, because verbs devices and hostPath files belong to root; but with one capability and nothing writable. */
function securityContext(spec: NvmeofTargetSpec, settings: DataplaneSettings) {
  if (settings.deviceAccess === 'Privileged') {
    return { privileged: true, readOnlyRootFilesystem: true, runAsUser: 0 };
  }
  return {
    privileged: false,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    runAsUser: 0,
    // Registered memory is locked memory; with this the limit on it does not apply.
    // Deleting and adding RDMA devices takes the right to change the node's network: given only to those who ask.
    capabilities: { drop: ['ALL'], add: ['IPC_LOCK', ...(recreatesSoftDevice(spec) ? ['NET_ADMIN'] : [])] },
    seccompProfile: seccompProfile(settings.seccompProfile),
  };
}

/** Where the certificate of the endpoints is mounted. */
const METRICS_TLS_DIRECTORY = '/etc/weir/metrics-tls';
const METRICS_TLS_VOLUME = 'metrics-tls';

/** Where Secrets with keys of hosts are mounted, each in a directory of its name. */
const SECRETS_DIRECTORY = '/etc/weir/secrets';

/** Volumes with the keys of hosts. A Secret that is missing keeps no pod from starting: only its hosts are refused. */
function secretVolumes(spec: NvmeofTargetSpec) {
  return dhchapSecrets(spec.access).map((secretName, index) => {
    const name = `dhchap-${index}`;
    const items = DHCHAP_SECRET_KEYS.map((key) => ({ key, path: key }));
    return {
      volume: { name, secret: { secretName, items, optional: true, defaultMode: 0o400 } },
      mount: { name, mountPath: `${SECRETS_DIRECTORY}/${secretName}`, readOnly: true },
    };
  });
}

/** What protects the endpoints; nothing is added while nothing does, so that no pod is replaced for it. */
function endpointArgs(settings: DataplaneSettings): string[] {
  return [
    ...(settings.metricsAuthentication ? ['--metrics-authentication'] : []),
    ...(settings.metricsTlsSecret === undefined ? [] : ['--metrics-tls-directory', METRICS_TLS_DIRECTORY]),
  ];
}

function probes(settings: DataplaneSettings) {
  const probe = (path: string, periodSeconds: number, failureThreshold: number) => ({
    // The kubelet does not verify the certificate of a probe.
    httpGet: {
      path,
      port: 'metrics',
      ...(settings.metricsTlsSecret === undefined ? {} : { scheme: 'HTTPS' }),
    },
    periodSeconds,
    failureThreshold,
    timeoutSeconds: 5,
  });
  // A port that is down is no reason to restart: /healthz tells of the process, /readyz of what it serves.
  return {
    startupProbe: probe('/healthz', 2, 150),
    livenessProbe: probe('/healthz', 10, 6),
    readinessProbe: probe('/readyz', 5, 2),
  };
}

function container(
  target: TargetIdentity,
  spec: NvmeofTargetSpec,
  settings: DataplaneSettings,
  port: number,
) {
  const claims = claimVolumes(spec.namespaces);
  const devices = claims.flatMap(({ device }) => device ?? []);
  const fieldRef = (fieldPath: string) => ({ valueFrom: { fieldRef: { fieldPath } } });
  return {
    name: 'dataplane',
    image: settings.image,
    imagePullPolicy: settings.imagePullPolicy,
    command: [DATAPLANE_COMMAND],
    args: [
      ...['--namespace', target.namespace],
      ...['--metrics-address', `0.0.0.0:${port}`],
      ...['--log-level', settings.logLevel],
      ...endpointArgs(settings),
      ...(recreatesSoftDevice(spec) ? ['--state-directory', STATE_DIRECTORY] : []),
      ...(dhchapSecrets(spec.access).length === 0 ? [] : ['--secrets-directory', SECRETS_DIRECTORY]),
    ],
    // The name of the dataplane's own object follows from these two: see targetNodeName in crds/object-names.ts.
    env: [
      { name: 'NODE_NAME', ...fieldRef('spec.nodeName') },
      { name: 'TARGET', value: `${target.namespace}/${target.name}` },
      { name: 'POD_NAME', ...fieldRef('metadata.name') },
      { name: 'POD_NAMESPACE', ...fieldRef('metadata.namespace') },
    ],
    ports: [
      {
        name: 'metrics',
        containerPort: port,
        ...(isOnHostNetwork(spec) ? { hostPort: port } : {}),
        protocol: 'TCP',
      },
    ],
    ...probes(settings),
    resources: resources(spec, settings),
    securityContext: securityContext(spec, settings),
    volumeMounts: [
      ...hostMounts(spec.namespaces, settings.deviceAccess).map(({ mount }) => mount),
      ...claims.flatMap(({ mount }) => mount ?? []),
      ...(recreatesSoftDevice(spec) ? [{ name: STATE_VOLUME, mountPath: STATE_DIRECTORY }] : []),
      ...secretVolumes(spec).map(({ mount }) => mount),
      ...(settings.metricsTlsSecret === undefined
        ? []
        : [{ name: METRICS_TLS_VOLUME, mountPath: METRICS_TLS_DIRECTORY, readOnly: true }]),
    ],
    ...(devices.length === 0 ? {} : { volumeDevices: devices }),
    terminationMessagePolicy: 'FallbackToLogsOnError',
  };
}

function podSpec(target: TargetIdentity, spec: NvmeofTargetSpec, settings: DataplaneSettings, port: number) {
  const priorityClassName = spec.priorityClassName ?? settings.priorityClassName;
  const resourceClaims = podResourceClaims(target, settings);
  return {
    serviceAccountName: childName(target.name),
    automountServiceAccountToken: true,
    ...(isOnHostNetwork(spec)
      ? { hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' }
      : { dnsPolicy: 'ClusterFirst' }),
    enableServiceLinks: false,
    nodeSelector: spec.nodeSelector,
    ...(spec.affinity === undefined ? {} : { affinity: spec.affinity }),
    tolerations: spec.tolerations,
    ...(priorityClassName === undefined ? {} : { priorityClassName }),
    terminationGracePeriodSeconds: terminationGraceSeconds(spec.link.drainTimeoutSeconds),
    ...(settings.imagePullSecrets.length === 0
      ? {}
      : { imagePullSecrets: settings.imagePullSecrets.map((name) => ({ name })) }),
    ...(resourceClaims.length === 0 ? {} : { resourceClaims }),
    containers: [container(target, spec, settings, port)],
    volumes: [
      ...hostMounts(spec.namespaces, settings.deviceAccess).map(({ volume }) => volume),
      ...claimVolumes(spec.namespaces).map(({ volume }) => volume),
      ...(recreatesSoftDevice(spec) ? [{ name: STATE_VOLUME, emptyDir: { sizeLimit: '1Mi' } }] : []),
      ...secretVolumes(spec).map(({ volume }) => volume),
      ...(settings.metricsTlsSecret === undefined
        ? []
        : [{ name: METRICS_TLS_VOLUME, secret: { secretName: settings.metricsTlsSecret } }]),
    ],
  };
}

/** A pod with other annotations is another pod: they decide on its interfaces. */
function templateHash(pod: object, { network }: NvmeofTargetSpec): string {
  const annotations = Object.entries(network.annotations).sort(([left], [right]) => (left < right ? -1 : 1));
  const text = JSON.stringify(pod) + (annotations.length === 0 ? '' : JSON.stringify(annotations));
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** The DaemonSet of a target. */
export function buildDaemonSet(
  target: TargetIdentity,
  spec: NvmeofTargetSpec,
  settings: DataplaneSettings,
  metricsPort: number,
): AppliedObject {
  const pod = podSpec(target, spec, settings, metricsPort);
  return {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: {
      ...childMetadata(target, childName(target.name)),
      ...(isOnHostNetwork(spec) ? { annotations: { [METRICS_PORT_ANNOTATION]: String(metricsPort) } } : {}),
    },
    spec: {
      selector: { matchLabels: selectorLabels(target.name) },
      // The operator replaces pods itself: one node at a time, the next only when the last serves again.
      updateStrategy: { type: 'OnDelete' },
      template: {
        metadata: {
          labels: childLabels(target.name),
          annotations: {
            ...spec.network.annotations,
            [TEMPLATE_HASH_ANNOTATION]: templateHash(pod, spec),
            'kubectl.kubernetes.io/default-container': 'dataplane',
          },
        },
        spec: pod,
      },
    },
  };
}
