/** Writes the status of node objects that no dataplane stands for. */
import { API_VERSION, DATAPLANE_FIELD_MANAGER, TARGET_NODE_KIND } from '../../crds/api-group.ts';
import { type Silence, silentStatus } from '../../crds/silent-status.ts';
import type { Api } from '../kubernetes/api-client.ts';
import { isConflict, isNotFound } from '../kubernetes/api-error.ts';
import { objectPath, RESOURCES } from '../kubernetes/resource.ts';
import type { StoredTargetNode } from './nvmeof-target.ts';
import { hasReported, needsSilencing } from './silence.ts';

/** Why nothing is known of a node by what the API server says now, past all caches; undefined while somebody reports. */
export type JudgeAfresh = (object: StoredTargetNode) => Promise<Silence | undefined>;

/**
 * See the module's comment. The status has one owner, the field manager of the dataplane; the operator applies under
 * that name while there is no dataplane, so that the next one replaces the whole by applying its own and nothing of
 * the operator's stays behind. The version of the object goes along: a dataplane that reports meanwhile wins.
 *
 * A report may be newer than what the watch of pods has told, and one that is overwritten is not soon repeated: before
 * a dataplane's word is taken back, the API server is asked once more.
 */
export class Silencer {
  readonly #api: Api;
  /** What was written over a version of an object that the cache still shows. */
  readonly #written = new WeakMap<StoredTargetNode, string>();

  readonly #judgeAfresh: JudgeAfresh;

  constructor(api: Api, judgeAfresh: JudgeAfresh) {
    this.#api = api;
    this.#judgeAfresh = judgeAfresh;
  }

  /** Says in the dataplane's place that nothing is known, unless it is said already. */
  async silence(object: StoredTargetNode, judged: Silence): Promise<void> {
    if (!this.#isDue(object, judged)) return;
    const why = hasReported(object.status) ? await this.#judgeAfresh(object) : judged;
    if (why === undefined || !this.#isDue(object, why)) return;
    const { name, namespace = '', resourceVersion, generation = 0 } = object.metadata;
    const body = {
      apiVersion: API_VERSION,
      kind: TARGET_NODE_KIND,
      metadata: { name, namespace, resourceVersion },
      status: silentStatus(object.status, why, generation, new Date()),
    };
    try {
      const path = objectPath(RESOURCES.targetNodes, { namespace, name }, 'status');
      await this.#api.apply(path, body, DATAPLANE_FIELD_MANAGER);
      this.#written.set(object, textOf(why));
    } catch (error) {
      // The object changed or went: the cache will show it, and that is the next occasion to look.
      if (!isConflict(error) && !isNotFound(error)) throw error;
    }
  }
  #isDue(object: StoredTargetNode, why: Silence): boolean {
    return needsSilencing(object.status, why) && this.#written.get(object) !== textOf(why);
  }
}

function textOf({ reason, message }: Silence): string {
  return `${reason} ${message}`;
}
