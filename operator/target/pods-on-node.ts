/** The pods of a target on a node as the API server knows them now, whatever a watch has told by then. */
import { TARGET_LABEL } from '../../crds/api-group.ts';
import type { Api } from '../kubernetes/api-client.ts';
import { listPath, RESOURCES } from '../kubernetes/resource.ts';
import { type DataplanePod, parsePod } from './cluster-objects.ts';
import type { StoredTargetNode } from './nvmeof-target.ts';

/**
 * Asks the API server: one request, answered as of now.
 *
 * @throws ApiError when it does not answer, or refuses.
 */
export async function podsOnNode(
  api: Api,
  { metadata: { namespace = '', labels }, spec: { nodeName } }: StoredTargetNode,
): Promise<DataplanePod[]> {
  const list = (await api.get(listPath(RESOURCES.pods, namespace), {
    labelSelector: `${TARGET_LABEL}=${labels?.[TARGET_LABEL] ?? ''}`,
    fieldSelector: `spec.nodeName=${nodeName}`,
  })) as { readonly items: readonly unknown[] };
  return list.items.map(parsePod);
}
