/**
 * ResourceClaimTemplates of DeviceClasses that a target's pods had before. A template is immutable and named after its
 * class, so another class leaves the former template behind: pods that were made from it need it until they have gone.
 */
import { controllerOf, type KubernetesObject } from '../kubernetes/object.ts';
import { type DataplaneDaemonSet, type DataplanePod, isPodAlive } from './cluster-objects.ts';

/** What the templates of a target are judged by. */
export interface ClaimTemplateUsers {
  /** UID of the target. */
  readonly uid: string;
  readonly daemonSet: DataplaneDaemonSet | undefined;
  readonly pods: readonly DataplanePod[];
}

/** Whether every pod that comes from now on is made from the DaemonSet as it is. */
function isSettled(daemonSet: DataplaneDaemonSet): boolean {
  return daemonSet.status.observedGeneration >= (daemonSet.metadata.generation ?? 0);
}

/**
 * Templates of the target that no pod of it uses and none will. None as long as the DaemonSet controller may still make
 * pods from a template of the DaemonSet that was replaced.
 * @param templates those that bear the target's label; what does not belong to it by its owner reference is left alone.
 */
export function unusedClaimTemplates<T extends KubernetesObject>(
  templates: readonly T[],
  { uid, daemonSet, pods }: ClaimTemplateUsers,
): T[] {
  if (daemonSet === undefined || !isSettled(daemonSet)) return [];
  const used = new Set([
    ...daemonSet.spec.template.spec.claimTemplateNames,
    ...pods.filter(isPodAlive).flatMap(({ spec }) => spec.claimTemplateNames),
  ]);
  return templates.filter(
    (template) => controllerOf(template)?.uid === uid && !used.has(template.metadata.name),
  );
}
