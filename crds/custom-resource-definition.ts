/** The CustomResourceDefinitions, built from the schemas. */
import type { z } from 'zod';
import {
  GROUP,
  TARGET_KIND,
  TARGET_NODE_KIND,
  TARGET_NODE_PLURAL,
  TARGET_PLURAL,
  VERSION,
} from './api-group.ts';
import { nvmeofTargetSchema } from './nvmeof-target.ts';
import { nvmeofTargetNodeSchema } from './nvmeof-target-node.ts';
import { type StructuralSchema, structuralSchema } from './openapi.ts';

/** A column of `kubectl get`. Priority 0 always shows, 1 only with `-o wide`. */
export interface PrintColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date';
  readonly jsonPath: string;
  readonly priority?: 1;
  readonly description?: string;
}

/** A kind of the API: what its CRD and its reference page are made from. */
export interface ApiKind {
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortName: string;
  readonly schema: z.ZodType;
  readonly columns: readonly PrintColumn[];
}

const AGE: PrintColumn = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };

const readyColumn = (name: string, field: string, priority?: 1): PrintColumn => ({
  name,
  type: 'string',
  jsonPath: `.status.conditions[?(@.type=="Ready")].${field}`,
  ...(priority === undefined ? {} : { priority }),
});

/** Every kind, in the order of the reference. */
export const API_KINDS: readonly ApiKind[] = [
  {
    kind: TARGET_KIND,
    plural: TARGET_PLURAL,
    singular: 'nvmeoftarget',
    shortName: 'nvt',
    schema: nvmeofTargetSchema,
    columns: [
      { name: 'NQN', type: 'string', jsonPath: '.status.nqn' },
      readyColumn('Ready', 'status'),
      { name: 'Nodes', type: 'string', jsonPath: '.status.nodes', description: 'Ready and desired nodes.' },
      { name: 'Hosts', type: 'integer', jsonPath: '.status.connectedHosts', description: 'Connected hosts.' },
      AGE,
      readyColumn('Reason', 'reason', 1),
      readyColumn('Message', 'message', 1),
    ],
  },
  {
    kind: TARGET_NODE_KIND,
    plural: TARGET_NODE_PLURAL,
    singular: 'nvmeoftargetnode',
    shortName: 'nvtn',
    schema: nvmeofTargetNodeSchema,
    columns: [
      { name: 'Node', type: 'string', jsonPath: '.spec.nodeName' },
      readyColumn('Ready', 'status'),
      {
        name: 'Phase',
        type: 'string',
        jsonPath: '.status.listeners[*].phase',
        description: 'Phase of the ports.',
      },
      { name: 'Hosts', type: 'integer', jsonPath: '.status.connectedHosts', description: 'Connected hosts.' },
      AGE,
      { name: 'Address', type: 'string', jsonPath: '.status.listeners[*].address', priority: 1 },
      {
        name: 'Paths',
        type: 'string',
        jsonPath: '.status.paths',
        priority: 1,
        description: 'Whether hosts may use the paths through the node.',
      },
      {
        name: 'Version',
        type: 'string',
        jsonPath: '.status.version',
        priority: 1,
        description: 'Version of the dataplane.',
      },
      readyColumn('Reason', 'reason', 1),
      readyColumn('Message', 'message', 1),
    ],
  },
];

function rootSchema(kind: ApiKind): StructuralSchema {
  const schema = structuralSchema(kind.schema, kind.kind);
  return {
    ...schema,
    properties: {
      apiVersion: { type: 'string', description: 'Version of the API, weir.dev/v1alpha1.' },
      kind: { type: 'string', description: `Kind of the object, ${kind.kind}.` },
      metadata: { type: 'object' },
      ...schema.properties,
    },
  };
}

/** Name of a kind's CRD object. */
export function definitionName(kind: ApiKind): string {
  return `${kind.plural}.${GROUP}`;
}

/** The CRD of a kind, as it is applied. */
export function customResourceDefinition(kind: ApiKind) {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: definitionName(kind) },
    spec: {
      group: GROUP,
      scope: 'Namespaced',
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural: kind.plural,
        singular: kind.singular,
        shortNames: [kind.shortName],
        categories: ['weir'],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: kind.columns,
          schema: { openAPIV3Schema: rootSchema(kind) },
        },
      ],
    },
  };
}
