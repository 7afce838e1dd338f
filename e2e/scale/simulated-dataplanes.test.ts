import { pino } from 'pino';
import { expect, it, vi } from 'vitest';
import { TARGET_LABEL } from '../../crds/api-group.ts';
import { FakeApi } from '../../dataplane/cluster/fake-api.ts';
import type { Api } from '../../operator/kubernetes/api-client.ts';
import { SimulatedDataplanes } from './simulated-dataplanes.ts';

const STARTED = '2026-11-24T05:00:00Z';
const metadata = {
  name: 'fast-node-a',
  namespace: 'scale',
  generation: 1,
  labels: { [TARGET_LABEL]: 'fast' },
};
const object = { metadata, spec: { nodeName: 'node-a' } };
const pod = {
  metadata: { name: 'fast-x', namespace: 'scale', labels: { [TARGET_LABEL]: 'fast' } },
  spec: { nodeName: 'node-a', containers: [] },
  status: {
    phase: 'Running',
    conditions: [{ type: 'Ready', status: 'True' }],
    containerStatuses: [{ name: 'dataplane', state: { running: { startedAt: STARTED } } }],
  },
};

it('reports again when the operator spoke in its place', async () => {
  const [objects, pods] = [new FakeApi(), new FakeApi()];
  const holder = (path: string) => (path.includes('/pods') ? pods : objects);
  const api: Api = {
    get: (path, query) => holder(path).get(path, query),
    watch: (path, query, signal) => holder(path).watch(path, query, signal),
    apply: (path, body, fieldManager) => objects.apply(path, body, fieldManager),
    create: (path, body) => objects.create(path, body),
    mergePatch: (path, body) => objects.mergePatch(path, body),
    replace: () => objects.replace(),
    delete: () => objects.delete(),
  };
  pods.put(pod);
  objects.put(object);
  const abort = new AbortController();
  const run = new SimulatedDataplanes(api, pino({ level: 'silent' })).run(abort.signal);
  await vi.waitFor(() => expect(objects.writes).toHaveLength(1));
  const { body } = objects.writes[0] as { body: unknown };
  expect(body).toMatchObject({ status: { observedGeneration: 1, startTime: STARTED } });
  const status = { startTime: STARTED, conditions: [{ type: 'Ready', status: 'True', reason: 'Simulated' }] };
  objects.put({ ...object, status } as never);
  const silent = { conditions: [{ type: 'Ready', status: 'Unknown', reason: 'DataplaneStarting' }] };
  objects.put({ ...object, status: silent } as never);
  await vi.waitFor(() => expect(objects.writes).toHaveLength(2));
  expect(objects.writes[1]).toMatchObject({ body });
  abort.abort();
  await run;
});
