/** PersistentVolumeClaims and PersistentVolumes as the operator's caches hold them: only what is needed of them. */
import { z } from 'zod';
import type { NodeSelectorTerm } from '../../crds/scheduling.ts';
import type { KubernetesObject } from '../kubernetes/object.ts';

const metadataSchema = z.object({
  name: z.string(),
  namespace: z.string().optional(),
  uid: z.string().optional(),
  resourceVersion: z.string().optional(),
  deletionTimestamp: z.string().optional(),
});

const claimSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({
    accessModes: z.array(z.string()).default([]),
    volumeMode: z.string().default('Filesystem'),
    volumeName: z.string().default(''),
  }),
  status: z
    .object({
      phase: z.string().default('Pending'),
      capacity: z.object({ storage: z.string().optional() }).prefault({}),
    })
    .prefault({}),
});

/** A PersistentVolumeClaim. */
export type StoredClaim = z.output<typeof claimSchema> & KubernetesObject;

const requirementSchema = z.object({
  key: z.string(),
  operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist', 'Gt', 'Lt']),
  values: z.array(z.string()).default([]),
});

const termSchema = z.object({
  matchExpressions: z.array(requirementSchema).default([]),
  matchFields: z.array(requirementSchema).default([]),
}) satisfies z.ZodType<NodeSelectorTerm>;

const volumeSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({
    claimRef: z.object({ namespace: z.string().default(''), name: z.string().default('') }).optional(),
    nodeAffinity: z
      .object({
        required: z.object({ nodeSelectorTerms: z.array(termSchema).default([]) }).optional(),
      })
      .optional(),
  }),
});

/** A PersistentVolume. */
export type StoredVolume = z.output<typeof volumeSchema> & KubernetesObject;

/** Reads a claim from the API's JSON. */
export function parseClaim(raw: unknown): StoredClaim {
  return claimSchema.parse(raw) as StoredClaim;
}

/** Reads a volume from the API's JSON. */
export function parseVolume(raw: unknown): StoredVolume {
  return volumeSchema.parse(raw) as StoredVolume;
}
