/** Nodes, pods and DaemonSets as the operator's caches hold them: only what is needed, since there are many. */
import { z } from 'zod';
import type { KubernetesObject, ObjectMeta } from '../kubernetes/object.ts';

const metadataSchema = z
  .looseObject({ name: z.string(), namespace: z.string().optional() })
  .transform(({ managedFields: _, ...metadata }) => metadata as unknown as ObjectMeta);

const taintSchema = z.object({
  key: z.string(),
  value: z.string().default(''),
  effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']),
});

const nodeSchema = z.object({
  metadata: metadataSchema,
  spec: z
    .object({ taints: z.array(taintSchema).default([]), unschedulable: z.boolean().default(false) })
    .prefault({}),
});

/** A taint of a node. */
export type Taint = z.output<typeof taintSchema>;

/** A node. */
export type ClusterNode = z.output<typeof nodeSchema> & KubernetesObject;

const terminatedSchema = z.object({ exitCode: z.int().default(0) });

const claimTemplateNamesSchema = z
  .array(z.object({ resourceClaimTemplateName: z.string().nullish() }))
  .default([])
  .transform((claims) => claims.flatMap(({ resourceClaimTemplateName: name }) => name ?? []));

const podSchema = z.object({
  metadata: metadataSchema,
  spec: z
    .object({
      nodeName: z.string().optional(),
      // A DaemonSet's pod that is not yet bound names its node here.
      affinity: z.unknown().optional(),
      volumes: z
        .array(z.object({ persistentVolumeClaim: z.object({ claimName: z.string() }).optional() }))
        .default([]),
      containers: z
        .array(z.object({ ports: z.array(z.object({ hostPort: z.int().optional() })).default([]) }))
        .default([]),
      resourceClaims: claimTemplateNamesSchema,
    })
    .transform(({ volumes, containers, resourceClaims, ...spec }) => ({
      ...spec,
      /** ResourceClaimTemplates that claims of the pod are made from. */
      claimTemplateNames: resourceClaims,
      /** Ports of its node that the pod has. */
      hostPorts: containers.flatMap(({ ports }) => ports.flatMap(({ hostPort }) => hostPort ?? [])),
      /** Claims that the pod has, or waits for. */
      claimNames: volumes.flatMap(({ persistentVolumeClaim: claim }) => claim?.claimName ?? []),
    }))
    .prefault({}),
  status: z
    .object({
      phase: z.string().default('Unknown'),
      conditions: z
        .array(
          z.object({
            type: z.string(),
            status: z.string(),
            message: z.string().default(''),
            lastTransitionTime: z.string().nullish(),
          }),
        )
        .default([]),
      containerStatuses: z
        .array(
          z.object({
            restartCount: z.int().default(0),
            state: z
              .object({
                waiting: z
                  .object({ reason: z.string().default(''), message: z.string().default('') })
                  .optional(),
                running: z.object({ startedAt: z.string().default('') }).optional(),
                terminated: terminatedSchema.optional(),
              })
              .prefault({}),
            lastState: z.object({ terminated: terminatedSchema.optional() }).prefault({}),
          }),
        )
        .default([]),
    })
    .prefault({}),
});

/** A pod of a dataplane. */
export type DataplanePod = z.output<typeof podSchema> & KubernetesObject;

const daemonSetSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({
    template: z.object({
      metadata: z.object({ annotations: z.record(z.string(), z.string()).default({}) }).prefault({}),
      spec: z
        .object({ resourceClaims: claimTemplateNamesSchema })
        .transform(({ resourceClaims }) => ({ claimTemplateNames: resourceClaims }))
        .prefault({}),
    }),
  }),
  status: z
    .object({
      observedGeneration: z.int().default(0),
      desiredNumberScheduled: z.int().default(0),
      currentNumberScheduled: z.int().default(0),
    })
    .prefault({}),
});

/** A DaemonSet of a target. */
export type DataplaneDaemonSet = z.output<typeof daemonSetSchema> & KubernetesObject;

const claimTemplateSchema = z.object({ metadata: metadataSchema });

/** A ResourceClaimTemplate of a target: what is in it is in its name too. */
export type StoredClaimTemplate = z.output<typeof claimTemplateSchema> & KubernetesObject;

/** Reads a node from the API's JSON. */
export function parseNode(raw: unknown): ClusterNode {
  return nodeSchema.parse(raw);
}

/** Reads a pod from the API's JSON. */
export function parsePod(raw: unknown): DataplanePod {
  return podSchema.parse(raw);
}

/** Reads a DaemonSet from the API's JSON. */
export function parseDaemonSet(raw: unknown): DataplaneDaemonSet {
  return daemonSetSchema.parse(raw);
}

/** Reads a ResourceClaimTemplate from the API's JSON. */
export function parseClaimTemplate(raw: unknown): StoredClaimTemplate {
  return claimTemplateSchema.parse(raw);
}

/** Whether the pod's containers may still be running. */
export function isPodAlive(pod: DataplanePod): boolean {
  return pod.status.phase !== 'Succeeded' && pod.status.phase !== 'Failed';
}

/** Whether the pod passes its readiness probe and is not on its way out. */
export function isPodReady(pod: DataplanePod): boolean {
  if (pod.metadata.deletionTimestamp !== undefined || !isPodAlive(pod)) return false;
  return pod.status.conditions.some(({ type, status }) => type === 'Ready' && status === 'True');
}
