/** What the cluster tells of targets: read once, then shown. */
import { z } from 'zod';
import { nvmeofTargetStatusSchema } from '../crds/nvmeof-target.ts';
import { nvmeofTargetNodeStatusSchema } from '../crds/nvmeof-target-node.ts';
import type { Api } from '../operator/kubernetes/api-client.ts';
import { ApiError } from '../operator/kubernetes/api-error.ts';
import { listPath, RESOURCES } from '../operator/kubernetes/resource.ts';

const metadataSchema = z.object({ name: z.string(), namespace: z.string() });

/** Newer versions may say more; that is left out. Of an object without a status nothing is known yet. */
const targetSchema = z.object({
  metadata: metadataSchema,
  status: nvmeofTargetStatusSchema.default({}),
});

const targetNodeSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({ target: z.string(), nodeName: z.string() }),
  status: nvmeofTargetNodeStatusSchema.default({}),
});

const eventSchema = z.object({
  metadata: metadataSchema,
  eventTime: z.string().nullish(),
  deprecatedLastTimestamp: z.string().nullish(),
  series: z.object({ count: z.number(), lastObservedTime: z.string() }).nullish(),
  type: z.string().default('Normal'),
  reason: z.string().default(''),
  note: z.string().default(''),
  regarding: z.object({ kind: z.string().default(''), name: z.string().default('') }),
});

/** An NvmeofTarget. */
export type TargetView = z.output<typeof targetSchema>;
/** An NvmeofTargetNode. */
export type TargetNodeView = z.output<typeof targetNodeSchema>;
/** An Event about one of them. */
export type EventView = z.output<typeof eventSchema>;

/** Everything at one moment. */
export interface ClusterView {
  readonly targets: readonly TargetView[];
  readonly nodes: readonly TargetNodeView[];
  /** `undefined`: they may not be read. */
  readonly events: readonly EventView[] | undefined;
}

/** What is wanted: of one namespace or of all, one target or all. */
export interface Selection {
  readonly namespace: string | undefined;
  readonly target: string | undefined;
}

/** There is no such target. */
export class UnknownTargetError extends Error {
  constructor({ namespace, target }: Selection, known: readonly TargetView[]) {
    const where = namespace === undefined ? 'any namespace' : `namespace ${namespace}`;
    const names = known.map(targetKey).join(', ');
    super(`there is no NvmeofTarget ${target} in ${where}${names === '' ? '' : `; there are: ${names}`}`);
    this.name = 'UnknownTargetError';
  }
}

/** `NAMESPACE/NAME`, as metrics and logs name a target. */
export function targetKey({ metadata }: TargetView): string {
  return `${metadata.namespace}/${metadata.name}`;
}

async function list<T extends z.ZodType>(api: Api, path: string, item: T): Promise<z.output<T>[]> {
  return z.object({ items: z.array(item) }).parse(await api.get(path)).items;
}

/** The operator's own account may not read Events. */
function unlessForbidden(error: unknown): undefined {
  if (error instanceof ApiError && error.status === 403) return undefined;
  throw error;
}

/**
 * Reads what is wanted.
 *
 * @throws {UnknownTargetError}
 */
export async function readCluster(api: Api, selection: Selection): Promise<ClusterView> {
  const { namespace, target } = selection;
  const [targets, nodes, events] = await Promise.all([
    list(api, listPath(RESOURCES.targets, namespace), targetSchema),
    list(api, listPath(RESOURCES.targetNodes, namespace), targetNodeSchema),
    list(api, listPath(RESOURCES.events, namespace), eventSchema).catch(unlessForbidden),
  ]);
  const chosen = targets.filter(({ metadata }) => target === undefined || metadata.name === target);
  if (target !== undefined && chosen.length === 0) throw new UnknownTargetError(selection, targets);
  const keys = new Set(chosen.map(targetKey));
  const chosenNodes = nodes.filter(({ spec }) => keys.has(spec.target));
  const about = new Set([
    ...chosen.map(({ metadata }) => `${metadata.namespace}/NvmeofTarget/${metadata.name}`),
    ...chosenNodes.map(({ metadata }) => `${metadata.namespace}/NvmeofTargetNode/${metadata.name}`),
  ]);
  const isAbout = ({ metadata, regarding }: EventView) =>
    about.has(`${metadata.namespace}/${regarding.kind}/${regarding.name}`);
  return { targets: chosen, nodes: chosenNodes, events: events?.filter(isAbout) };
}
