import { describe, expect, it } from 'vitest';
import { API_VERSION, TARGET_LABEL, TARGET_NODE_KIND } from '../../crds/api-group.ts';
import type { Silence } from '../../crds/silent-status.ts';
import type { Api } from '../kubernetes/api-client.ts';
import { sampleCondition, samplePod } from '../testing/samples.ts';
import type { StoredTargetNode } from './nvmeof-target.ts';
import { podsOnNode } from './pods-on-node.ts';
import { Silencer } from './silencer.ts';

const ended: Silence = { reason: 'DataplaneNotRunning', message: 'the dataplane does not run in pod a' };

function object(status: StoredTargetNode['status']): StoredTargetNode {
  return {
    apiVersion: API_VERSION,
    kind: TARGET_NODE_KIND,
    metadata: { name: 'fast-a', namespace: 'storage', generation: 2, labels: { [TARGET_LABEL]: 'fast' } },
    spec: { nodeName: 'node-a' },
    status,
  } as unknown as StoredTargetNode;
}

const reported = () =>
  object({ startTime: '2026-11-24T12:00:00Z', conditions: [sampleCondition('Ready', 'True')] });

/** What was asked for and written. */
function recordingApi(pods: unknown[] = []) {
  const writes: unknown[] = [];
  const reads: unknown[] = [];
  const api = {
    apply: async (_path: string, body: unknown) => writes.push(body),
    get: async (path: string, query: unknown) => {
      reads.push([path, query]);
      return { items: pods };
    },
  } as unknown as Api;
  return { api, writes, reads };
}

describe('in the place of a dataplane', () => {
  it('nothing is said over a report while the API server knows a process that stands for it', async () => {
    const { api, writes } = recordingApi();
    await new Silencer(api, async () => undefined).silence(reported(), ended);
    expect(writes).toEqual([]);
  });

  it('what the API server says now is said over a report, not what a watch told', async () => {
    const { api, writes } = recordingApi();
    const gone = { reason: 'NoPod', message: 'no pod runs on the node' };
    await new Silencer(api, async () => gone).silence(reported(), ended);
    const said = { status: { conditions: expect.arrayContaining([expect.objectContaining(gone)]) } };
    expect(writes).toMatchObject([said]);
  });

  it('the API server is asked about a report only, and once for each version of the object', async () => {
    let asked = 0;
    const { api, writes } = recordingApi();
    const silencer = new Silencer(api, async () => {
      asked += 1;
      return ended;
    });
    await silencer.silence(object(undefined), ended);
    expect(asked).toBe(0);
    const node = reported();
    await silencer.silence(node, ended);
    await silencer.silence(node, ended);
    expect(asked).toBe(1);
    expect(writes).toHaveLength(2);
  });
});

describe('the pods of a target on a node', () => {
  it('are asked for by target and node', async () => {
    const { api, reads } = recordingApi([samplePod('node-a', { isReady: true })]);
    expect(await podsOnNode(api, reported())).toMatchObject([{ spec: { nodeName: 'node-a' } }]);
    const query = { labelSelector: `${TARGET_LABEL}=fast`, fieldSelector: 'spec.nodeName=node-a' };
    expect(reads).toEqual([['/api/v1/namespaces/storage/pods', query]]);
  });
});
