/** Objects for tests: complete and small, changed where a test cares. */
import { API_VERSION, DRAIN_FINALIZER, TARGET_KIND, TARGET_LABEL } from '../../crds/api-group.ts';
import type { Condition } from '../../crds/condition.ts';
import { type NvmeofTargetSpec, nvmeofTargetSpecSchema } from '../../crds/nvmeof-target.ts';
import { TEMPLATE_HASH_ANNOTATION } from '../build/daemon-set.ts';
import type { DataplaneSettings } from '../settings.ts';
import { type ClusterNode, type DataplanePod, parseNode, parsePod } from '../target/cluster-objects.ts';
import { parseTarget, type StoredTarget } from '../target/nvmeof-target.ts';

/** Settings as the chart makes them by default. */
export const SAMPLE_SETTINGS: DataplaneSettings = {
  image: 'weir:test',
  imagePullPolicy: 'IfNotPresent',
  imagePullSecrets: [],
  priorityClassName: 'system-node-critical',
  metricsAuthentication: false,
  metricsTlsSecret: undefined,
  deviceAccess: 'DevicePlugin',
  deviceResource: 'rdma/shared',
  deviceClass: '',
  requests: { cpu: '100m', memory: '256Mi' },
  seccompProfile: 'RuntimeDefault',
  logLevel: 'info',
  portRange: { first: 9810, last: 9899 },
  fileDirectories: ['/var/lib/weir'],
  deviceDirectories: ['/dev'],
};

/** What a user writes at least, as plain data. */
export function sampleSpecInput(change: object = {}): Record<string, unknown> {
  return {
    nqn: 'nqn.2026-11.dev.weir:fast',
    listeners: [{ name: 'storage', addressFrom: { cidr: '10.9.0.0/24' } }],
    namespaces: [
      { nsid: 1, backend: { file: { path: '/var/lib/weir/fast.img', size: '1Gi' } } },
      { nsid: 2, backend: { memory: { size: '256Mi' } } },
    ],
    ...change,
  };
}

/** The same with its defaults. */
export function sampleSpec(change: object = {}): NvmeofTargetSpec {
  return nvmeofTargetSpecSchema.parse(sampleSpecInput(change));
}

/** A target as stored. */
export function sampleTarget(name = 'fast', change: object = {}, metadata: object = {}): StoredTarget {
  return parseTarget({
    apiVersion: API_VERSION,
    kind: TARGET_KIND,
    metadata: {
      name,
      namespace: 'storage',
      uid: `uid-${name}`,
      generation: 1,
      creationTimestamp: '2026-11-23T08:00:00Z',
      finalizers: [DRAIN_FINALIZER],
      ...metadata,
    },
    spec: sampleSpecInput(change),
  });
}

/** A node with labels and taints. */
export function sampleNode(
  name: string,
  labels: Record<string, string> = {},
  taints: { key: string; effect: string; value?: string }[] = [],
): ClusterNode {
  return parseNode({ metadata: { name, uid: `uid-${name}`, labels }, spec: { taints } });
}

/** A pod of the target `storage/fast`. */
export function samplePod(
  nodeName: string,
  options: { templateHash?: string; isReady?: boolean; isLeaving?: boolean; waiting?: string } = {},
): DataplanePod {
  return parsePod({
    metadata: {
      name: `weir-target-fast-${nodeName}`,
      namespace: 'storage',
      uid: `uid-pod-${nodeName}`,
      labels: { [TARGET_LABEL]: 'fast' },
      annotations: { [TEMPLATE_HASH_ANNOTATION]: options.templateHash ?? 'new' },
      ...(options.isLeaving === true ? { deletionTimestamp: '2026-11-23T08:10:00Z' } : {}),
    },
    spec: { nodeName },
    status: {
      phase: 'Running',
      conditions: [{ type: 'Ready', status: options.isReady === false ? 'False' : 'True' }],
      containerStatuses:
        options.waiting === undefined ? [] : [{ state: { waiting: { reason: options.waiting } } }],
    },
  });
}

/** A condition. */
export function sampleCondition(type: string, status: Condition['status'], reason = 'Reason'): Condition {
  return {
    type,
    status,
    reason,
    message: `${type} is ${status}`,
    lastTransitionTime: '2026-11-23T08:00:00Z',
  };
}
