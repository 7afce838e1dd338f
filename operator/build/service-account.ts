/** The identity of a target's dataplanes. */
import { childName } from '../../crds/object-names.ts';
import type { AppliedObject } from '../kubernetes/object.ts';
import { childMetadata, type TargetIdentity } from './child.ts';

/** ServiceAccount of a target's pods. */
export function buildServiceAccount(target: TargetIdentity): AppliedObject {
  return {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: childMetadata(target, childName(target.name)),
    // The pod mounts its token by asking for it; nothing else that runs under this account gets one.
    automountServiceAccountToken: false,
  };
}
