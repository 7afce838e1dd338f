/** Ties the role to the account. */
import { childName } from '../../crds/object-names.ts';
import type { AppliedObject } from '../kubernetes/object.ts';
import { childMetadata, type TargetIdentity } from './child.ts';

/** RoleBinding of a target's pods. */
export function buildRoleBinding(target: TargetIdentity): AppliedObject {
  const name = childName(target.name);
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'RoleBinding',
    metadata: childMetadata(target, name),
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
    subjects: [{ kind: 'ServiceAccount', name, namespace: target.namespace }],
  };
}
