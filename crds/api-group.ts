/** The API group's fixed names: what manifests, RBAC rules, labels and both processes agree on. */

/** API group of every Weir kind. */
export const GROUP = 'weir.dev';

/** The served and stored version. */
export const VERSION = 'v1alpha1';

/** `apiVersion` of every Weir object. */
export const API_VERSION = `${GROUP}/${VERSION}`;

/** Kind and plural of the resource that users write. */
export const TARGET_KIND = 'NvmeofTarget';
/** See {@link TARGET_KIND}. */
export const TARGET_PLURAL = 'nvmeoftargets';

/** Kind and plural of the resource that the operator writes, one for each target and node. */
export const TARGET_NODE_KIND = 'NvmeofTargetNode';
/** See {@link TARGET_NODE_KIND}. */
export const TARGET_NODE_PLURAL = 'nvmeoftargetnodes';

/** Finalizer that keeps an NvmeofTarget until its dataplanes have drained. */
export const DRAIN_FINALIZER = `${GROUP}/drain`;

/** Label on every child object: the name of its NvmeofTarget. */
export const TARGET_LABEL = `${GROUP}/target`;

/** Label on NvmeofTargetNode objects: a label-safe form of the node's name (see `labelValue`). */
export const NODE_LABEL = `${GROUP}/node`;

/** Value of `app.kubernetes.io/managed-by` on every child object. */
export const MANAGED_BY = 'weir-operator';

/** Field manager of everything the operator applies. */
export const OPERATOR_FIELD_MANAGER = 'weir-operator';

/** Field manager of what the operator writes at an NvmeofTargetNode while its pod is replaced or its paths are given up. */
export const ROLLOUT_FIELD_MANAGER = 'weir-operator-rollout';

/** Field manager of the status that a dataplane applies to its own NvmeofTargetNode. */
export const DATAPLANE_FIELD_MANAGER = 'weir-dataplane';
