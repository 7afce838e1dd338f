/** Writes at an NvmeofTargetNode how its pod and its paths are handled at the moment. */
import { API_VERSION, ROLLOUT_FIELD_MANAGER, TARGET_NODE_KIND } from '../../crds/api-group.ts';
import type { NvmeofTargetNodeSpec } from '../../crds/nvmeof-target-node.ts';
import type { Api } from '../kubernetes/api-client.ts';
import { objectPath, RESOURCES } from '../kubernetes/resource.ts';
import type { StoredTargetNode } from './nvmeof-target.ts';
import { formatReplacement, REPLACEMENT_ANNOTATION, type Replacement } from './replacement.ts';

/** How a node is handled. */
export interface Handling {
  readonly replacement: Replacement | undefined;
  /** Pod whose paths are inaccessible. */
  readonly leavingPod: string | undefined;
}

/**
 * Under a field manager of its own: what is written here is decided with what the last pass saw, and the objects that
 * every pass applies must neither carry it nor take it away.
 */
export class HandlingWriter {
  readonly #api: Api;
  /** What was written over a version of an object that the cache still shows. */
  readonly #written = new WeakMap<StoredTargetNode, string>();

  constructor(api: Api) {
    this.#api = api;
  }

  /** Makes the object say so, if it does not. Whether it was written. */
  async write(object: StoredTargetNode, handling: Handling): Promise<boolean> {
    const { replacement, leavingPod } = handling;
    const annotation = replacement === undefined ? undefined : formatReplacement(replacement);
    const paths: NvmeofTargetNodeSpec['paths'] =
      leavingPod === undefined ? undefined : { state: 'Inaccessible', ofPod: leavingPod };
    const wanted = JSON.stringify([annotation, paths?.ofPod]);
    const present = JSON.stringify([
      object.metadata.annotations?.[REPLACEMENT_ANNOTATION],
      object.spec.paths?.ofPod,
    ]);
    if ((this.#written.get(object) ?? present) === wanted) return false;
    const { name, namespace = '', uid } = object.metadata;
    const body = {
      apiVersion: API_VERSION,
      kind: TARGET_NODE_KIND,
      // The uid: an object that was deleted meanwhile is not made again with this alone.
      metadata: {
        name,
        namespace,
        uid,
        ...(annotation === undefined ? {} : { annotations: { [REPLACEMENT_ANNOTATION]: annotation } }),
      },
      ...(paths === undefined ? {} : { spec: { paths } }),
    };
    await this.#api.apply(
      objectPath(RESOURCES.targetNodes, { namespace, name }),
      body,
      ROLLOUT_FIELD_MANAGER,
    );
    this.#written.set(object, wanted);
    return true;
  }
}
