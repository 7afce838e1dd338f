/** NvmeofTarget: what a user writes. */
import { z } from 'zod';
import { accessSchema } from './access.ts';
import { conditionsSchema } from './condition.ts';
import { listenersSchema } from './listener.ts';
import {
  absolutePathSchema,
  anaGroupSchema,
  blockDeviceSchema,
  CAPACITY_UNIT_BYTES,
  NAMESPACES_MAX,
  nsidSchema,
  readOnlySchema,
} from './namespace.ts';
import { networkSchema } from './network.ts';
import { LABEL_VALUE_LENGTH_MAX } from './object-names.ts';
import { nqnSchema } from './qualified-name.ts';
import { quantityToBytes, SIZE_PATTERN } from './quantity.ts';
import { exactlyOneOf, mapList, withRule, withTransitionRule } from './rule.ts';
import { affinitySchema, nodeSelectorSchema, resourcesSchema, tolerationsSchema } from './scheduling.ts';
import { keepAliveSchema, linkSchema, pollingSchema, queuesSchema } from './tuning.ts';
import { uuidSchema } from './uuid.ts';

const sizeSchema = withRule(
  z.string().min(1).max(32).regex(SIZE_PATTERN, {
    error: 'must be a size in bytes as a Kubernetes quantity without a fraction, like 10Gi',
  }),
  {
    rule: `!isQuantity(self) || (quantity(self).isInteger() && quantity(self).asInteger() > 0 && quantity(self).asInteger() % ${CAPACITY_UNIT_BYTES} == 0)`,
    message: 'must be more than 0 and a multiple of 4Ki, like 10Gi',
  },
  (size) => {
    const bytes = quantityToBytes(size);
    return bytes !== undefined && bytes > 0 && bytes % CAPACITY_UNIT_BYTES === 0;
  },
);

/** File that a namespace is kept in on a Filesystem claim, unless it is named. */
const CLAIM_FILE_NAME = 'namespace.img';

const claimFileSchema = z
  .strictObject({
    name: z
      .string()
      .min(1)
      .max(128)
      .regex(/^[A-Za-z0-9][-A-Za-z0-9._]*$/, {
        error: 'must be the name of a file, without directories, like namespace.img',
      })
      .default(CLAIM_FILE_NAME)
      .describe('Name of the file at the top of the volume. Namespaces that share a claim name one each.'),
    size: sizeSchema.describe(
      "Capacity, like 10Gi: at most the claim's, and less by what the file system needs for itself. It may grow once the claim has; it never shrinks.",
    ),
  })
  .describe(
    'For a claim with volumeMode Filesystem, required there: the file in it. Created sparse if absent; never truncated. Not for volumeMode Block.',
  );

const persistentVolumeClaimSchema = z
  .strictObject({
    claimName: z
      .string()
      .min(1)
      .max(253)
      .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, { error: 'must be the name of a PersistentVolumeClaim' })
      .describe("Name of the claim, in the target's Kubernetes namespace."),
    file: claimFileSchema.optional(),
  })
  .describe(
    'A PersistentVolumeClaim: its block device (volumeMode Block; hosts see it grow with the claim), or a file on it (volumeMode Filesystem). Not with scope PerNode.',
  );

const backendSchema = exactlyOneOf(
  z.strictObject({
    blockDevice: blockDeviceSchema.optional(),
    file: z
      .strictObject({
        path: absolutePathSchema('Path of the file on the node. Created sparse if absent; never truncated.'),
        size: sizeSchema.describe('Capacity, like 10Gi. It may grow; it never shrinks.'),
      })
      .describe("A file on the node's disk.")
      .optional(),
    memory: z
      .strictObject({ size: sizeSchema.describe('Capacity, like 1Gi.') })
      .describe("The pod's memory. Volatile: the data is gone when the pod restarts.")
      .optional(),
    persistentVolumeClaim: persistentVolumeClaimSchema.optional(),
  }),
  ['blockDevice', 'file', 'memory', 'persistentVolumeClaim'],
).describe('Where the data lives. Exactly one.');

const namespaceSchema = withTransitionRule(
  z.strictObject({
    nsid: nsidSchema,
    uuid: uuidSchema(
      'UUID that hosts recognise the namespace by. Immutable. Derived from NQN and nsid when absent.',
    ).optional(),
    readOnly: readOnlySchema,
    anaGroup: anaGroupSchema,
    backend: backendSchema,
  }),
  {
    rule: 'has(self.uuid) == has(oldSelf.uuid) && (!has(self.uuid) || self.uuid == oldSelf.uuid)',
    message:
      'uuid is immutable: hosts fail the I/O of a namespace whose UUID changed; remove it and add another nsid',
    fieldPath: '.uuid',
  },
).describe('A namespace: one disk on the host.');

/** A PersistentVolumeClaim that a namespace lives in. */
export type ClaimBackend = z.output<typeof persistentVolumeClaimSchema>;

/** One namespace of an NvmeofTarget. */
export type TargetNamespace = z.output<typeof namespaceSchema>;

const specObject = z.strictObject({
  nqn: nqnSchema(
    'NQN of the subsystem. Immutable. Derived from namespace, name and UID when absent; status.nqn shows it.',
  ).optional(),
  scope: z
    .enum(['Shared', 'PerNode'])
    .default('Shared')
    .describe(
      'Shared: one subsystem over all selected nodes, which must see the same data. PerNode: one subsystem a node, NQN and UUIDs its own. Immutable.',
    ),
  nodeSelector: nodeSelectorSchema,
  affinity: affinitySchema.optional(),
  tolerations: tolerationsSchema,
  resources: resourcesSchema,
  priorityClassName: z
    .string()
    .min(1)
    .max(253)
    .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, { error: 'must be the name of a PriorityClass' })
    .optional()
    .describe('Priority class of the pods.'),
  network: networkSchema,
  listeners: listenersSchema,
  namespaces: mapList(namespaceSchema, ['nsid'], { maxItems: NAMESPACES_MAX })
    .describe('Namespaces of the subsystem. Added and removed live.')
    .default([]),
  access: accessSchema.prefault({}),
  queues: queuesSchema,
  keepAlive: keepAliveSchema,
  link: linkSchema,
  polling: pollingSchema,
  deletionPolicy: z
    .enum(['Protect', 'Drain'])
    .default('Protect')
    .describe('Protect: deletion waits while hosts are connected. Drain: tell hosts, drain, delete.'),
  paused: z
    .boolean()
    .default(false)
    .describe('Leave the pods and what they serve as they are; changes wait until this is false again.'),
});

const withNqnFixed = withTransitionRule(specObject, {
  rule: 'has(self.nqn) == has(oldSelf.nqn) && (!has(self.nqn) || self.nqn == oldSelf.nqn)',
  message: 'nqn is immutable: make a new NvmeofTarget for another NQN',
  fieldPath: '.nqn',
});

const withScopeFixed = withTransitionRule(withNqnFixed, {
  rule: 'self.scope == oldSelf.scope',
  message: 'scope is immutable: make a new NvmeofTarget',
  fieldPath: '.scope',
});

const withDerivedUuids = withRule(
  withScopeFixed,
  {
    rule: "self.scope == 'Shared' || self.namespaces.all(n, !has(n.uuid))",
    message: 'with scope PerNode every node has other data, so UUIDs are derived: remove uuid',
    fieldPath: '.namespaces',
  },
  (spec) => spec.scope === 'Shared' || spec.namespaces.every((namespace) => namespace.uuid === undefined),
);

const withoutSharedClaims = withRule(
  withDerivedUuids,
  {
    rule: "self.scope == 'Shared' || self.namespaces.all(n, !has(n.backend.persistentVolumeClaim))",
    message:
      "with scope PerNode every node has data of its own, which one claim cannot be: use scope Shared, or a blockDevice or file of each node's own",
    fieldPath: '.namespaces',
  },
  (spec) =>
    spec.scope === 'Shared' ||
    spec.namespaces.every(({ backend }) => backend.persistentVolumeClaim === undefined),
);

/**
 * Not expressible in CEL within its cost limit (it compares every pair of 1024 namespaces), so the operator judges
 * it: see the refinement below.
 */
function firstRepeatedUuid(namespaces: readonly TargetNamespace[]): string | undefined {
  const seen = new Set<string>();
  for (const { uuid } of namespaces) {
    if (uuid === undefined) continue;
    if (seen.has(uuid)) return uuid;
    seen.add(uuid);
  }
  return undefined;
}

/** Desired state of an NvmeofTarget. */
export const nvmeofTargetSpecSchema = withoutSharedClaims
  .superRefine((spec, context) => {
    const repeated = firstRepeatedUuid(spec.namespaces);
    if (repeated === undefined) return;
    context.addIssue({
      code: 'custom',
      path: ['namespaces'],
      message: `uuid ${repeated} is used twice: give each namespace its own, or leave uuid out`,
    });
  })
  .describe('Desired state.');

/** Desired state of an NvmeofTarget, defaults filled in. */
export type NvmeofTargetSpec = z.output<typeof nvmeofTargetSpecSchema>;

/** Observed state of an NvmeofTarget. */
export const nvmeofTargetStatusSchema = z
  .object({
    observedGeneration: z
      .int()
      .min(0)
      .optional()
      .describe('metadata.generation that this status belongs to.'),
    nqn: z
      .string()
      .max(223)
      .optional()
      .describe('NQN that hosts connect to (with scope PerNode: followed by ":<node>").'),
    desiredNodes: z.int().min(0).max(100000).optional().describe('Nodes that should serve the target.'),
    readyNodes: z.int().min(0).max(100000).optional().describe('Nodes that serve it.'),
    nodes: z
      .string()
      .max(16)
      .optional()
      .describe('Ready and desired nodes as "ready/desired", for printing.'),
    connectedHosts: z.int().min(0).optional().describe('Host connections (controllers) on all nodes.'),
    conditions: conditionsSchema.optional(),
  })
  .describe('Observed state.');

/** Observed state of an NvmeofTarget. */
export type NvmeofTargetStatus = z.output<typeof nvmeofTargetStatusSchema>;

/** Root of an NvmeofTarget: rules that need the object's name. */
export const nvmeofTargetSchema = withRule(
  z.object({ spec: nvmeofTargetSpecSchema, status: nvmeofTargetStatusSchema.optional() }),
  {
    rule: `self.metadata.name.size() <= ${LABEL_VALUE_LENGTH_MAX} && !self.metadata.name.contains('.')`,
    message: `the name is a label of every child object: at most ${LABEL_VALUE_LENGTH_MAX} characters and no dots`,
  },
  () => true, // The API server judges names; a parsed root carries none.
).describe(
  'NvmeofTarget is an NVMe-oF subsystem served over RDMA by one pod on each selected node. It rides through link flaps.',
);
