/** What all children of a target have in common. */
import { API_VERSION, MANAGED_BY, TARGET_KIND, TARGET_LABEL } from '../../crds/api-group.ts';
import type { AppliedObject, OwnerReference } from '../kubernetes/object.ts';

/** The target that children belong to. */
export interface TargetIdentity {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** Labels by which the pods of a target are selected. They never change: a DaemonSet's selector is immutable. */
export function selectorLabels(targetName: string): Readonly<Record<string, string>> {
  return { 'app.kubernetes.io/name': 'weir-dataplane', [TARGET_LABEL]: targetName };
}

/** Labels of every child. */
export function childLabels(targetName: string): Readonly<Record<string, string>> {
  return {
    ...selectorLabels(targetName),
    'app.kubernetes.io/component': 'dataplane',
    'app.kubernetes.io/part-of': 'weir',
    'app.kubernetes.io/managed-by': MANAGED_BY,
  };
}

/** The reference by which children are deleted with their target. */
export function ownerReference(target: TargetIdentity): OwnerReference {
  return {
    apiVersion: API_VERSION,
    kind: TARGET_KIND,
    name: target.name,
    uid: target.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}

/** Metadata of a child. */
export function childMetadata(
  target: TargetIdentity,
  name: string,
  extraLabels: Readonly<Record<string, string>> = {},
): AppliedObject['metadata'] {
  return {
    name,
    namespace: target.namespace,
    labels: { ...childLabels(target.name), ...extraLabels },
    ownerReferences: [ownerReference(target)],
  };
}
