/** The two Weir kinds as the operator's caches hold them. */
import { z } from 'zod';
import type { NvmeofTargetStatus } from '../../crds/nvmeof-target.ts';
import type { NvmeofTargetNodeStatus } from '../../crds/nvmeof-target-node.ts';
import type { KubernetesObject, ObjectMeta } from '../kubernetes/object.ts';

/**
 * An NvmeofTarget as stored. Its spec is unread here: an object stored by an older or newer schema must still be
 * listed, deleted and told what is wrong with it.
 */
export interface StoredTarget extends KubernetesObject {
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status?: NvmeofTargetStatus;
}

/** An NvmeofTargetNode as stored: what the operator needs of it. */
export interface StoredTargetNode extends KubernetesObject {
  readonly spec: {
    readonly nodeName: string;
    readonly subsystems?: readonly {
      readonly controllerIDs?: { readonly first: number; readonly last: number };
    }[];
    readonly paths?: { readonly state: string; readonly ofPod?: string };
  };
  readonly status?: NvmeofTargetNodeStatus;
}

const metadataSchema = z.looseObject({ name: z.string(), namespace: z.string().optional() });

/**
 * What of a status code relies on without asking: conditions and lists are what they are called. A status of which
 * that is not true counts for nothing; the next one replaces it.
 */
const statusSchema = z
  .looseObject({
    conditions: z.array(z.looseObject({ type: z.string(), status: z.string() })).optional(),
    listeners: z.array(z.looseObject({})).optional(),
    hosts: z.array(z.looseObject({})).optional(),
  })
  .optional()
  .catch(undefined);

const targetSchema = z.looseObject({
  metadata: metadataSchema,
  // What is no object at all is told as a specification that lacks everything.
  spec: z.record(z.string(), z.unknown()).catch({}),
  status: statusSchema,
});

const targetNodeSchema = z.looseObject({
  metadata: metadataSchema,
  spec: z.looseObject({ nodeName: z.string() }),
  status: statusSchema,
});

function trimmed(metadata: unknown): ObjectMeta {
  const { managedFields: _, ...rest } = metadata as ObjectMeta & { managedFields?: unknown };
  return rest;
}

/** Reads an NvmeofTarget from the API's JSON. */
export function parseTarget(raw: unknown): StoredTarget {
  const object = targetSchema.parse(raw);
  return { ...object, metadata: trimmed(object.metadata) } as StoredTarget;
}

/** Reads an NvmeofTargetNode from the API's JSON. */
export function parseTargetNode(raw: unknown): StoredTargetNode {
  const object = targetNodeSchema.parse(raw);
  return { ...object, metadata: trimmed(object.metadata) } as unknown as StoredTargetNode;
}
