/** Where a target's pods run: the parts of a pod's specification that users may set. */
import { z } from 'zod';
import { withRule } from './rule.ts';

const SELECTOR_TERMS_MAX = 16;
const REQUIREMENTS_MAX = 32;
const VALUES_MAX = 128;
const TOLERATIONS_MAX = 32;
const LABEL_KEY_LENGTH_MAX = 317;
const LABEL_VALUE_LENGTH_MAX = 63;
const SELECTOR_LABELS_MAX = 32;
const RESOURCES_MAX = 16;

const LABEL_KEY_PATTERN =
  /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE_PATTERN = /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/;

const labelKeySchema = z
  .string()
  .min(1)
  .max(LABEL_KEY_LENGTH_MAX)
  .regex(LABEL_KEY_PATTERN, { error: 'must be a label key, like kubernetes.io/os' });

const labelValueSchema = z.string().max(LABEL_VALUE_LENGTH_MAX).regex(LABEL_VALUE_PATTERN, {
  error: 'must be a label value: letters, digits, -, _ and ., beginning and ending with a letter or digit',
});

/** A map of at most so many entries. */
function boundedMap<K extends z.core.$ZodRecordKey, V extends z.ZodType>(
  key: K,
  value: V,
  entriesMax: number,
) {
  return z
    .record(key, value)
    .refine((map) => Object.keys(map).length <= entriesMax, {
      message: `must have at most ${entriesMax} entries`,
    })
    .default(() => ({}) as never)
    .meta({ maxProperties: entriesMax });
}

/** Labels that a node must carry. */
export const nodeSelectorSchema = boundedMap(labelKeySchema, labelValueSchema, SELECTOR_LABELS_MAX).describe(
  'Labels that a node must carry to run the target. Empty selects every node.',
);

const requirementSchema = withRule(
  z.strictObject({
    key: labelKeySchema.describe('Label (or field) to compare.'),
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist', 'Gt', 'Lt']).describe('How to compare.'),
    values: z
      .array(z.string().max(253))
      .max(VALUES_MAX)
      .default([])
      .describe('Values to compare with; one integer for Gt and Lt, none for Exists and DoesNotExist.')
      .meta({ 'x-kubernetes-list-type': 'atomic' }),
  }),
  {
    rule: "self.operator in ['In', 'NotIn'] ? self.values.size() > 0 : (self.operator in ['Gt', 'Lt'] ? (self.values.size() == 1 && self.values[0].matches('^-?[0-9]+$')) : self.values.size() == 0)",
    message: 'In and NotIn need values, Gt and Lt one integer, Exists and DoesNotExist none',
  },
  ({ operator, values }) => {
    if (operator === 'In' || operator === 'NotIn') return values.length > 0;
    if (operator === 'Exists' || operator === 'DoesNotExist') return values.length === 0;
    return values.length === 1 && /^-?[0-9]+$/.test(values[0] ?? '');
  },
);

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
  matchFields: withRule(
    requirementsSchema('Requirements on the fields of the node; only metadata.name exists.'),
    {
      rule: "self.all(field, field.key == 'metadata.name' && field.operator in ['In', 'NotIn'] && field.values.size() == 1)",
      message: 'the one field is metadata.name, with operator In or NotIn and one value',
    },
    (fields) =>
      fields.every(
        ({ key, operator, values }) =>
          key === 'metadata.name' && (operator === 'In' || operator === 'NotIn') && values.length === 1,
      ),
  ),
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

const tolerationObject = z.strictObject({
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

const withValueForEqual = withRule(
  tolerationObject,
  {
    rule: "self.operator == 'Equal' || !has(self.value) || self.value == ''",
    message: 'operator Exists takes no value: remove value, or set operator: Equal',
  },
  ({ operator, value }) => operator === 'Equal' || value === undefined || value === '',
);

const withKeyForEqual = withRule(
  withValueForEqual,
  {
    rule: "self.operator == 'Exists' || (has(self.key) && self.key != '')",
    message: 'a toleration of every taint key needs operator: Exists',
  },
  ({ operator, key }) => operator === 'Exists' || (key !== undefined && key !== ''),
);

/** A toleration, as in a pod. */
export const tolerationSchema = withRule(
  withKeyForEqual,
  {
    rule: "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
    message: 'tolerationSeconds needs effect: NoExecute',
  },
  ({ tolerationSeconds, effect }) => tolerationSeconds === undefined || effect === 'NoExecute',
);

/** A toleration, as in a pod. */
export type Toleration = z.output<typeof tolerationSchema>;

/** The tolerations of a target's pods. */
export const tolerationsSchema = z
  .array(tolerationSchema)
  .max(TOLERATIONS_MAX)
  .default([])
  .describe('Taints that the pods tolerate, beside those that every DaemonSet tolerates.')
  .meta({ 'x-kubernetes-list-type': 'atomic' });

const QUANTITY_FACTORS: Readonly<Record<string, number>> = {
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** Less than 0, 0 or more than 0, as `left` is less than, as much as or more than `right`; both fit the schema. */
export function compareQuantities(left: string, right: string): number {
  const value = (text: string): number => {
    const [, number = '0', suffix = ''] = /^([0-9.]+)(.*)$/.exec(text) ?? [];
    return Number(number) * (QUANTITY_FACTORS[suffix] ?? 1);
  };
  return value(left) - value(right);
}

const resourceQuantity = withRule(
  z.string().min(1).max(32),
  { rule: 'isQuantity(self)', message: 'must be a Kubernetes quantity, like 500m or 2Gi' },
  (text) => /^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$/.test(text),
);

const resourceList = (description: string) =>
  boundedMap(z.string().min(1).max(LABEL_KEY_LENGTH_MAX), resourceQuantity, RESOURCES_MAX).describe(
    description,
  );

/** Resources of the dataplane's container. */
export const resourcesSchema = withRule(
  z.strictObject({
    requests: resourceList(
      'What the pod is guaranteed. CPU and memory default to dataplane.resources of the chart (100m and 256Mi), or to the limit where that is lower.',
    ),
    limits: resourceList('What the pod may not exceed. Memory must cover memory backends and buffers.'),
  }),
  {
    rule: 'self.requests.all(name, !(name in self.limits) || !isQuantity(self.requests[name]) || !isQuantity(self.limits[name]) || quantity(self.requests[name]).compareTo(quantity(self.limits[name])) <= 0)',
    message: 'a request must not be more than its limit',
  },
  ({ requests, limits }) =>
    Object.entries(requests).every(
      ([name, request]) => compareQuantities(request, limits[name] ?? request) <= 0,
    ),
)
  .prefault({})
  .describe("Resources of the dataplane's container.");
