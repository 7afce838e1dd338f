import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type NvmeofTargetNodeStatus,
  nvmeofTargetNodeStatusSchema,
  SPEC_REVISION,
} from '../../crds/nvmeof-target-node.ts';
import { ApiError } from '../../operator/kubernetes/api-error.ts';
import { CoreError } from '../core/errors.ts';
import { FakeCore, sampleListener, sampleStats } from '../core/fake-core.ts';
import { Dataplane } from '../dataplane.ts';
import { sampleSpecInput } from '../sample-spec.ts';
import type { FollowedSource } from '../source.ts';
import { clusterSource } from './cluster-source.ts';
import { FakeApi, type Write } from './fake-api.ts';

const options = {
  namespace: 'storage',
  name: 'fast-node-a',
  node: 'node-a',
  target: 'storage/fast',
  pod: 'fast-new',
};
const statusPath = '/apis/weir.dev/v1alpha1/namespaces/storage/nvmeoftargetnodes/fast-node-a/status';

let followed: FollowedSource | undefined;
beforeEach(() => vi.useFakeTimers({ now: new Date('2026-11-23T10:00:00Z') }));
afterEach(async () => {
  followed?.stop();
  await followed?.finish({ reason: 'Stopped', message: 'the test is over' });
  vi.useRealTimers();
});

function setUp() {
  const api = new FakeApi();
  const core = new FakeCore();
  const logger = pino({ level: 'silent' });
  const source = clusterSource(options, '0.1.0', api);
  const dataplane = new Dataplane(core, logger, source.identity, '0.1.0');
  followed = source.start(dataplane, core, logger);
  const put = (generation: number, spec: object = sampleSpecInput, extra: object = {}): void =>
    api.put({
      metadata: { name: options.name, namespace: options.namespace, uid: 'u-1', generation },
      spec,
      ...extra,
    } as never);
  const statuses = (): Write[] => api.writes.filter((write) => write.path === statusPath);
  const status = (): NvmeofTargetNodeStatus =>
    (statuses().at(-1)?.body as { status?: NvmeofTargetNodeStatus } | undefined)?.status ?? {};
  const condition = (type: string) => status().conditions?.find((one) => one.type === type);
  const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(2500);
  return { api, core, source: followed, put, statuses, status, condition, settle };
}

/** Refuses these fields of the status, in the words of an API server whose CRD does not have them. */
function olderCrd(...undeclared: readonly { readonly path: string; readonly field: RegExp }[]) {
  return ({ path, body }: Write): Error | undefined => {
    if (path !== statusPath) return undefined;
    const found = undeclared.filter(({ field }) => field.test(JSON.stringify(body))).map((one) => one.path);
    // Of the fields of one map the first that is found ends the look.
    const firstOfMap = new Map(found.map((refused) => [refused.slice(0, refused.lastIndexOf('.')), refused]));
    const errors = [...firstOfMap.values()].map((refused) => `${refused}: field not declared in schema`);
    if (errors.length === 0) return undefined;
    // One error follows on the same line, several are listed below it.
    const list = errors.length === 1 ? errors[0] : ['errors:', ...errors.map((one) => `  ${one}`)].join('\n');
    const message = `failed to create typed patch object (storage/fast-node-a; weir.dev/v1alpha1, Kind=NvmeofTargetNode): ${list}`;
    return new ApiError('PATCH', 500, JSON.stringify({ message }));
  };
}

const REVISION = { path: '.status.specRevision', field: /"specRevision"/ };
const VERSION = { path: '.status.version', field: /"version"/ };
const PHASE_OF_LISTENER = { path: '.status.listeners[name="storage"].phase', field: /"phase"/ };

describe('weir-dataplane of a release later than the CRD', () => {
  it.each([
    ['one field', [REVISION]],
    ['several fields, also of items', [REVISION, PHASE_OF_LISTENER]],
    ['several fields of one map', [REVISION, VERSION, PHASE_OF_LISTENER]],
  ])('tells all but %s that the CRD does not have, now and after', async (_, undeclared) => {
    const { api, core, put, status, condition, settle } = setUp();
    api.refusalOf = olderCrd(...undeclared);
    put(3);
    await settle();
    expect(condition('Ready')).toMatchObject({ status: 'True' });
    expect(status()).not.toHaveProperty('specRevision');
    expect('version' in status()).toBe(!undeclared.includes(VERSION));
    const [listener] = status().listeners ?? [];
    expect(listener).toMatchObject({ name: 'storage' });
    expect(listener !== undefined && 'phase' in listener).toBe(!undeclared.includes(PHASE_OF_LISTENER));
    core.snapshot = sampleStats({ generation: 4 });
    put(4);
    await settle();
    expect(status().observedGeneration).toBe(4);
  });

  it('tells all again once the CRD has them', async () => {
    const { api, core, put, status, settle } = setUp();
    api.refusalOf = olderCrd(REVISION);
    put(3);
    await settle();
    expect(status()).toMatchObject({ observedGeneration: 3 });
    expect(status().specRevision).toBeUndefined();
    api.refusalOf = () => undefined;
    core.snapshot = sampleStats({ generation: 4 });
    put(4);
    await settle();
    expect(status().specRevision).toBe(SPEC_REVISION);
  });

  it('says its last word to the older CRD too', async () => {
    const { api, put, source, condition, settle } = setUp();
    api.refusalOf = olderCrd(PHASE_OF_LISTENER);
    put(3);
    await settle();
    source.stop();
    await source.finish({ reason: 'Stopped', message: 'the dataplane was stopped (SIGTERM) and left' });
    expect(condition('Ready')).toMatchObject({ status: 'Unknown', reason: 'Stopped' });
  });

  it('is not told less when it is refused for another reason, but tried again later', async () => {
    const { api, put, statuses, status, settle } = setUp();
    api.failure = new ApiError('PATCH', 500, JSON.stringify({ message: 'etcdserver: request timed out' }));
    put(3);
    await settle();
    expect(statuses()).toEqual([]);
    api.failure = undefined;
    await settle();
    expect(status().specRevision).toBe(SPEC_REVISION);
  });
});

describe('weir-dataplane in a cluster', () => {
  it('reads its own NvmeofTargetNode and no other', async () => {
    const { api, settle } = setUp();
    await settle();
    expect(api.listQueries[0]).toMatchObject({ fieldSelector: 'metadata.name=fast-node-a' });
  });

  it('serves the spec and tells the status by server-side apply', async () => {
    const { core, put, statuses, status, condition, settle } = setUp();
    put(3);
    await settle();
    expect(core.applied).toMatchObject([{ generation: 3, spec: { nodeName: 'node-a' } }]);
    expect(statuses()[0]).toMatchObject({ method: 'apply', fieldManager: 'weir-dataplane' });
    expect(status().observedGeneration).toBe(3);
    expect(condition('Ready')).toMatchObject({ status: 'True' });
  });

  it('does not take its own status for a change', async () => {
    const { core, put, settle } = setUp();
    put(3);
    await settle();
    put(3, sampleSpecInput, { status: { connectedHosts: 1 } });
    await settle();
    expect(core.applied).toHaveLength(1);
  });

  it('says what is wrong with a spec that it cannot take, and serves on', async () => {
    const { core, put, status, condition, settle } = setUp();
    put(3);
    await settle();
    put(4, { ...sampleSpecInput, listeners: [] });
    await settle();
    expect(core.applied).toHaveLength(1);
    expect(condition('Accepted')).toMatchObject({ status: 'False', reason: 'InvalidSpec' });
    expect(condition('Accepted')?.message).toContain('spec.listeners');
    expect(condition('ListenersReady')?.status).toBe('True');
    expect(status().observedGeneration).toBe(4);
    put(5);
    await settle();
    expect(condition('Accepted')?.status).toBe('True');
  });

  it('tells the last outages of a listener, those of former processes too', async () => {
    const { core, put, status, settle } = setUp();
    const old = {
      startTime: '2026-11-23T02:00:00.000Z',
      endTime: '2026-11-23T02:00:04.000Z',
      reason: 'LinkDown',
    };
    const unknown = {
      type: 'Ready',
      status: 'Unknown',
      lastTransitionTime: '2026-11-23T09:59:00Z',
      reason: 'Stopped',
      message: '',
    };
    const listeners = [{ name: 'storage', phase: 'Unknown', outages: [old] }];
    put(3, sampleSpecInput, { status: { conditions: [unknown], listeners } });
    await settle();
    const began = { startTime: '2026-11-23T09:59:00Z', reason: 'DataplaneRestarted' };
    expect(status().listeners?.[0]?.outages).toEqual([began, old]);
    core.emit({
      type: 'portPhase',
      timeMs: Date.parse('2026-11-23T10:00:05Z'),
      listener: 'storage',
      from: 'Arming',
      to: 'Serving',
      epoch: 1,
      reason: '',
      message: '',
    });
    await settle();
    const ended = { ...began, endTime: '2026-11-23T10:00:05.000Z' };
    expect(status().listeners?.[0]?.outages).toEqual([ended, old]);
  });

  it("passes on the core's refusal", async () => {
    const { core, put, condition, settle } = setUp();
    core.refusal = new CoreError('InvalidSpec', 'subsystems[0].namespaces: too many');
    put(3);
    await settle();
    expect(condition('Accepted')).toMatchObject({
      status: 'False',
      message: 'subsystems[0].namespaces: too many',
    });
  });

  it("refuses another node's object", async () => {
    const { core, put, condition, settle } = setUp();
    put(3, { ...sampleSpecInput, nodeName: 'node-b' });
    await settle();
    expect(core.applied).toEqual([]);
    expect(condition('Accepted')).toMatchObject({ status: 'False', reason: 'WrongNode' });
  });

  it('leaves its paths when that is said of its pod, and not when it is said of the one before', async () => {
    const { core, put, status, condition, settle } = setUp();
    const withPaths = (ofPod: string) => ({ ...sampleSpecInput, paths: { state: 'Inaccessible', ofPod } });
    put(3, withPaths('fast-old'));
    await settle();
    expect(core.applied.at(-1)?.spec).not.toHaveProperty('paths');
    expect(status().paths).toBe('Accessible');
    put(4, withPaths('fast-new'));
    await settle();
    expect(core.applied.at(-1)?.spec.paths).toEqual({ state: 'Inaccessible', ofPod: 'fast-new' });
    core.snapshot = sampleStats({ generation: 4, paths: 'Inaccessible' });
    await settle();
    expect(status()).toMatchObject({ paths: 'Inaccessible', observedGeneration: 4 });
    expect(condition('Ready')).toMatchObject({ status: 'False', reason: 'PathsInaccessible' });
  });

  it('says which revision of the spec it knows, and refuses fields of a later one', async () => {
    const { core, put, status, condition, settle } = setUp();
    put(3);
    await settle();
    expect(status().specRevision).toBe(SPEC_REVISION);
    put(4, { ...sampleSpecInput, somethingNew: { mode: 'Fast' } });
    await settle();
    expect(core.applied).toHaveLength(1);
    expect(condition('Accepted')).toMatchObject({ status: 'False', reason: 'InvalidSpec' });
    expect(condition('Accepted')?.message).toContain('somethingNew');
  });

  it('tells a link that went down in the conditions and as an Event', async () => {
    const { api, core, put, condition, settle } = setUp();
    put(3);
    await settle();
    core.snapshot = sampleStats({
      generation: 3,
      listeners: [sampleListener({ phase: 'Down', linkUp: false, reason: 'LinkDown' })],
    });
    core.emit({ type: 'linkState', listener: 'storage', netdev: 'rdma0', up: false });
    await settle();
    expect(condition('LinksUp')).toMatchObject({ status: 'False', reason: 'LinkDown' });
    expect(condition('Ready')).toMatchObject({ status: 'False' });
    expect(api.writes.find((write) => write.method === 'create')?.body).toMatchObject({ reason: 'LinkDown' });
  });

  it('tells the generation that is served, not the one that is only received', async () => {
    const { core, put, status, settle } = setUp();
    put(3);
    await settle();
    const served = core.snapshot;
    put(4);
    await vi.advanceTimersByTimeAsync(0);
    core.snapshot = { ...served, generation: 3, hostsTotal: 1 };
    await settle();
    expect(status().observedGeneration).toBe(3);
    core.snapshot = { ...served, generation: 4 };
    await settle();
    expect(status().observedGeneration).toBe(4);
  });

  it('serves on when the object is deleted, and takes a new one of the same name', async () => {
    const { api, core, put, settle } = setUp();
    put(3);
    await settle();
    api.remove();
    await settle();
    expect(core.closed).toBe(false);
    api.put({
      metadata: { name: options.name, namespace: options.namespace, uid: 'u-2', generation: 1 },
      spec: sampleSpecInput,
    } as never);
    await settle();
    expect(core.applied.map(({ generation }) => generation)).toEqual([3, 1]);
  });

  it('keeps what it serves while the object says paused', async () => {
    const { core, put, status, settle } = setUp();
    put(3);
    await settle();
    put(4, { ...sampleSpecInput, paused: true });
    await settle();
    expect(core.applied).toHaveLength(1);
    expect(status().observedGeneration).toBe(4);
  });

  it('writes a last status when it leaves', async () => {
    const { core, put, source, status, condition, settle } = setUp();
    put(3);
    await settle();
    expect(status().startTime).toBeDefined();
    core.snapshot = sampleStats({ generation: 3, state: 'Drained', hostsTotal: 1 });
    source.stop();
    await source.finish({ reason: 'Stopped', message: 'the dataplane was stopped (SIGTERM) and left' });
    const conditions = status().conditions ?? [];
    expect(new Set(conditions.map((one) => one.status))).toEqual(new Set(['Unknown']));
    expect(condition('Ready')).toMatchObject({
      reason: 'Stopped',
      lastTransitionTime: '2026-11-23T10:00:02Z',
    });
    expect(status()).toMatchObject({ connectedHosts: 0, hosts: [], listeners: [{ phase: 'Unknown' }] });
    expect(status().startTime).toBeUndefined();
    expect(nvmeofTargetNodeStatusSchema.safeParse(status()).success).toBe(true);
  });

  it('keeps saying that its device is away when it leaves because of that', async () => {
    const { core, put, source, condition, settle } = setUp();
    put(3);
    await settle();
    core.snapshot = sampleStats({
      generation: 3,
      state: 'Drained',
      listeners: [sampleListener({ phase: 'Failed', reason: 'DeviceRemoved', message: 'rxe0 was removed' })],
    });
    source.stop();
    await source.finish({ reason: 'DeviceRemoved', message: 'the dataplane left with exit code 75' });
    expect(condition('DeviceHealthy')).toMatchObject({ status: 'False', reason: 'DeviceRemoved' });
    expect(condition('Ready')).toMatchObject({ status: 'Unknown', reason: 'DeviceRemoved' });
    expect(condition('LinksUp')?.status).toBe('Unknown');
  });

  it('writes what is true again when the operator took it for dead', async () => {
    const { put, statuses, status, condition, settle } = setUp();
    put(3);
    await settle();
    put(3, sampleSpecInput, { status: status() });
    await settle();
    const before = statuses().length;
    put(3, sampleSpecInput, { status: { conditions: [] } });
    await settle();
    expect(statuses()).toHaveLength(before + 1);
    expect(condition('Ready')?.status).toBe('True');
  });
});
