/** Where a target's pods run: the parts of a pod's specification that users may set. */
import { z } from 'zod';
import { withRule } from './rule.ts';

const SELECTOR_TERMS_MAX = 16;
const REQUIREMENTS_MAX = 32;
const VALUES_MAX = 128;
const TOLERATIONS_MAX = 32;
const LABEL_KEY_LENGTH_MAX = 317;
const LABEL_VALUE_LENGTH_MAX = 63;

const labelKeySchema = z.string().min(1).max(LABEL_KEY_LENGTH_MAX);

/** Labels that a node must carry. */
export const nodeSelectorSchema = z
  .record(labelKeySchema, z.string().max(LABEL_VALUE_LENGTH_MAX))
  .default({})
  .describe('Labels that a node must carry to run the target. Empty selects every node.');

const requirementSchema = z.strictObject({
  key: labelKeySchema.describe('Label (or field) to compare.'),
  operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist', 'Gt', 'Lt']).describe('How to compare.'),
  values: z
    .array(z.string().max(253))
    .max(VALUES_MAX)
    .default([])
    .describe('Values to compare with; one integer for Gt and Lt, none for Exists and DoesNotExist.')
    .meta({ 'x-kubernetes-list-type': 'atomic' }),
});

/** One requirement of a node selector term. */
export type NodeRequirement = z.output<typeof requirementSchema>;

const requirementsSchema = (description: string) =>
  z
    .array(requirementSchema)
    .max(REQUIREMENTS_MAX)
    .default([])
    .describe(description)
    .meta({ 'x-kubernetes-list-type': 'atomic' });

const termSchema = z.strictObject({
  matchExpressions: requirementsSchema('Requirements on the labels of the node.'),
  matchFields: requirementsSchema('Requirements on the fields of the node; only metadata.name exists.'),
});

/** A node selector term: all of its requirements hold. */
export type NodeSelectorTerm = z.output<typeof termSchema>;

/** Node affinity, the part of a pod's affinity that means something to a DaemonSet. */
export const affinitySchema = z
  .strictObject({
    nodeAffinity: z
      .strictObject({
        requiredDuringSchedulingIgnoredDuringExecution: z
          .strictObject({
            nodeSelectorTerms: z
              .array(termSchema)
              .min(1)
              .max(SELECTOR_TERMS_MAX)
              .describe('Terms of which a node must match at least one.')
              .meta({ 'x-kubernetes-list-type': 'atomic' }),
          })
          .describe('What a node must match.'),
      })
      .describe('Which nodes the target runs on, by expressions.'),
  })
  .describe('Node affinity, as in a pod.');

/** A toleration, as in a pod. */
export const tolerationSchema = z.strictObject({
  key: z.string().max(LABEL_KEY_LENGTH_MAX).optional().describe('Taint key; every key when absent.'),
  operator: z.enum(['Exists', 'Equal']).default('Equal').describe('How to compare the value.'),
  value: z.string().max(LABEL_VALUE_LENGTH_MAX).optional().describe('Taint value for Equal.'),
  effect: z
    .enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute'])
    .optional()
    .describe('Taint effect; every effect when absent.'),
  tolerationSeconds: z
    .int()
    .min(0)
    .max(2147483647)
    .optional()
    .describe('How long a NoExecute taint is tolerated.'),
});

/** A toleration, as in a pod. */
export type Toleration = z.output<typeof tolerationSchema>;

/** The tolerations of a target's pods. */
export const tolerationsSchema = z
  .array(tolerationSchema)
  .max(TOLERATIONS_MAX)
  .default([])
  .describe('Taints that the pods tolerate, beside those that every DaemonSet tolerates.')
  .meta({ 'x-kubernetes-list-type': 'atomic' });

const resourceQuantity = withRule(
  z.string().min(1).max(32),
  { rule: 'isQuantity(self)', message: 'must be a Kubernetes quantity, like 500m or 2Gi' },
  (text) => /^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$/.test(text),
);

const resourceList = (description: string) =>
  z
    .record(z.string().min(1).max(LABEL_KEY_LENGTH_MAX), resourceQuantity)
    .default({})
    .describe(description)
    .meta({ maxProperties: 16 });

/** Resources of the dataplane's container. */
export const resourcesSchema = z
  .strictObject({
    requests: resourceList('What the pod is guaranteed. Memory defaults to what the target needs.'),
    limits: resourceList('What the pod may not exceed. Memory must cover memory backends and buffers.'),
  })
  .prefault({})
  .describe("Resources of the dataplane's container.");
