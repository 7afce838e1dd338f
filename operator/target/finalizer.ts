/** The finalizer that keeps a target until its dataplanes have drained. */
import { DRAIN_FINALIZER } from '../../crds/api-group.ts';
import type { Api } from '../kubernetes/api-client.ts';
import { isNotFound } from '../kubernetes/api-error.ts';
import { objectPath, RESOURCES } from '../kubernetes/resource.ts';
import type { StoredTarget } from './nvmeof-target.ts';

/** Whether the target carries the finalizer. */
export function hasFinalizer(target: StoredTarget): boolean {
  return target.metadata.finalizers?.includes(DRAIN_FINALIZER) === true;
}

/** Puts the finalizer on. Fails with a conflict when the target changed meanwhile. */
export async function addFinalizer(api: Api, target: StoredTarget): Promise<void> {
  await write(api, target, [...(target.metadata.finalizers ?? []), DRAIN_FINALIZER]);
}

/** Takes the finalizer off: the target goes. */
export async function removeFinalizer(api: Api, target: StoredTarget): Promise<void> {
  const rest = (target.metadata.finalizers ?? []).filter((name) => name !== DRAIN_FINALIZER);
  try {
    await write(api, target, rest);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

/** The resource version makes sure that no finalizer of somebody else is lost. */
async function write(api: Api, target: StoredTarget, finalizers: readonly string[]): Promise<void> {
  const { name, namespace = '', resourceVersion } = target.metadata;
  const path = objectPath(RESOURCES.targets, { namespace, name });
  await api.mergePatch(path, { metadata: { resourceVersion, finalizers } });
}
