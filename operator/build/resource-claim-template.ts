/** The claim on an RDMA device that each pod gets, where devices come by Dynamic Resource Allocation. */
import { createHash } from 'node:crypto';
import { childName } from '../../crds/object-names.ts';
import type { AppliedObject } from '../kubernetes/object.ts';
import type { DataplaneSettings } from '../settings.ts';
import { childMetadata, type TargetIdentity } from './child.ts';

/** Name of the claim within the pod, and of the one request in it. */
export const RDMA_CLAIM = 'rdma';

const CLASS_HASH_DIGITS = 8;

/** What a template never changes for: it is immutable, so its name tells the class. */
function templateName(target: TargetIdentity, deviceClass: string): string {
  const hash = createHash('sha256').update(deviceClass).digest('hex').slice(0, CLASS_HASH_DIGITS);
  return `${childName(target.name)}-${hash}`;
}

/** The claims of a pod's specification; none where devices come otherwise. */
export function podResourceClaims(
  target: TargetIdentity,
  { deviceAccess, deviceClass }: Pick<DataplaneSettings, 'deviceAccess' | 'deviceClass'>,
): { readonly name: string; readonly resourceClaimTemplateName: string }[] {
  if (deviceAccess !== 'ResourceClaim') return [];
  return [{ name: RDMA_CLAIM, resourceClaimTemplateName: templateName(target, deviceClass) }];
}

/**
 * The ResourceClaimTemplate of a target: one device of the class. It goes with its target, or after another class took
 * its place and its last pod has gone; where devices come otherwise by now it stays with its target.
 */
export function buildResourceClaimTemplate(target: TargetIdentity, deviceClass: string): AppliedObject {
  return {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaimTemplate',
    metadata: childMetadata(target, templateName(target, deviceClass)),
    spec: {
      spec: { devices: { requests: [{ name: RDMA_CLAIM, exactly: { deviceClassName: deviceClass } }] } },
    },
  };
}
