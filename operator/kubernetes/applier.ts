/** Server-side apply that spares the API server what it was told already. */
import { createHash } from 'node:crypto';
import { OPERATOR_FIELD_MANAGER } from '../../crds/api-group.ts';
import type { Api } from './api-client.ts';
import type { AppliedObject, KubernetesObject } from './object.ts';
import { objectPath, type Resource } from './resource.ts';

/** Of a kind that is not watched, an apply is repeated after this time: somebody may have edited the object. */
const TRUSTED_MS = 10 * 60 * 1000;

interface Applied {
  readonly digest: string;
  readonly uid: string | undefined;
  readonly generation: number | undefined;
  readonly atMs: number;
}

type Texts = Readonly<Record<string, string>>;

/** Whether every entry of `part` is in `whole`: others may have added their own. */
function contains(whole: Texts = {}, part: Texts = {}): boolean {
  return Object.entries(part).every(([key, value]) => whole[key] === value);
}

/** Applies objects of the operator's one field manager. */
export class Applier {
  readonly #api: Api;
  readonly #applied = new Map<string, Applied>();

  constructor(api: Api) {
    this.#api = api;
  }

  /**
   * Applies an object unless it is as it was applied last. `live` is the object as a cache has it, if one watches the
   * kind: an edit by somebody else shows in its generation, a deletion in its absence.
   */
  async apply(
    resource: Resource,
    object: AppliedObject,
    live?: { readonly current: KubernetesObject | undefined },
  ) {
    const { namespace, name } = object.metadata;
    const path = objectPath(resource, { namespace, name });
    const digest = createHash('sha256').update(JSON.stringify(object)).digest('base64');
    if (this.#isCurrent(path, digest, object, live)) return;
    const stored = (await this.#api.apply(path, object, OPERATOR_FIELD_MANAGER)) as KubernetesObject;
    const { uid, generation } = stored.metadata;
    this.#applied.set(path, { digest, uid, generation, atMs: Date.now() });
  }

  /** Forgets an object that was deleted. */
  forget(resource: Resource, id: { readonly namespace: string; readonly name: string }): void {
    this.#applied.delete(objectPath(resource, id));
  }

  #isCurrent(
    path: string,
    digest: string,
    object: AppliedObject,
    live?: { readonly current: KubernetesObject | undefined },
  ): boolean {
    const applied = this.#applied.get(path);
    if (applied === undefined || applied.digest !== digest) return false;
    if (live === undefined) return Date.now() - applied.atMs <= TRUSTED_MS;
    // A cache that has not seen our own write yet shows an older generation, or nothing: applying again is harmless.
    const metadata = live.current?.metadata;
    return (
      metadata?.uid === applied.uid &&
      metadata?.generation === applied.generation &&
      contains(metadata?.labels, object.metadata.labels) &&
      contains(metadata?.annotations, object.metadata.annotations)
    );
  }
}
