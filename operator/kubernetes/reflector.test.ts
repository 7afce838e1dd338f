import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Answer, FakeApiServer, sendEvent, sendJson } from '../testing/fake-api-server.ts';
import { ApiClient } from './api-client.ts';
import type { KubernetesObject } from './object.ts';
import { Reflector, type ReflectorOptions, type RestartReason } from './reflector.ts';
import { RESOURCES } from './resource.ts';

let server: FakeApiServer;
let stop: AbortController;
let running: Promise<void>;
let restarts: RestartReason[];
let changes: string[];
let unreadable: number[];

beforeEach(async () => {
  server = await FakeApiServer.start();
  stop = new AbortController();
  restarts = [];
  changes = [];
  unreadable = [];
});
afterEach(async () => {
  stop.abort();
  await running;
  await server.stop();
});

const node = (name: string, resourceVersion: string) => ({ metadata: { name, resourceVersion } });
const list =
  (resourceVersion: string, items: unknown[], next?: string): Answer =>
  (response) =>
    sendJson(response, {
      metadata: { resourceVersion, ...(next === undefined ? {} : { continue: next }) },
      items,
    });
const idle: Answer = (response) => sendEvent(response, 'BOOKMARK', node('', '100'));

function start(options: Partial<ReflectorOptions<KubernetesObject>> = {}): Reflector<KubernetesObject> {
  const reflector = new Reflector<KubernetesObject>({
    api: new ApiClient(server.config),
    resource: RESOURCES.nodes,
    parse: (raw) => {
      const object = raw as KubernetesObject;
      if (object.metadata.name === 'unreadable') throw new Error('no such field');
      return object;
    },
    groupOf: (object) => object.metadata.name[0],
    onChange: (current, previous) => {
      const name = (current ?? previous)?.metadata.name;
      changes.push(`${current === undefined ? '-' : previous === undefined ? '+' : '~'}${name}`);
      if (name === 'explosive') throw new Error('handler');
    },
    logger: pino({ level: 'silent' }),
    observer: {
      eventSeen: () => undefined,
      restarted: (_, reason) => restarts.push(reason),
      unreadable: (_, count) => unreadable.push(count),
    },
    backoff: { baseMilliseconds: 1, maxMilliseconds: 5 },
    ...options,
  });
  running = reflector.run(stop.signal);
  return reflector;
}

describe('a reflector', () => {
  it('reads every page of the list before it counts as synced', async () => {
    server.lists = [list('7', [node('a1', '1')], 'page2'), list('7', [node('b1', '2')])];
    server.watches = [idle];
    const reflector = start();
    await reflector.synced;
    expect([...reflector.values()].map((object) => object.metadata.name)).toEqual(['a1', 'b1']);
    expect(server.requests[1]?.searchParams.get('continue')).toBe('page2');
    expect(server.requests[0]?.searchParams.get('limit')).toBe('500');
  });

  it('watches from the version of the list, with bookmarks and a time limit', async () => {
    server.lists = [list('7', [])];
    server.watches = [idle];
    start();
    await vi.waitFor(() => expect(server.requests).toHaveLength(2));
    const query = server.requests[1]?.searchParams;
    expect(query?.get('resourceVersion')).toBe('7');
    expect(query?.get('allowWatchBookmarks')).toBe('true');
    expect(Number(query?.get('timeoutSeconds'))).toBeGreaterThanOrEqual(300);
  });

  it('of a kind that a cluster need not have is empty where there is none, and asks no more', async () => {
    server.lists = [(response) => sendJson(response, { reason: 'NotFound' }, 404)];
    const reflector = start({ optional: true });
    await reflector.synced;
    await running;
    expect([...reflector.values()]).toEqual([]);
    expect(server.requests).toHaveLength(1);
  });

  it('follows additions, changes and deletions, and tells each once', async () => {
    server.lists = [list('1', [node('a1', '1')])];
    server.watches = [
      (response) => {
        sendEvent(response, 'ADDED', node('a2', '2'));
        sendEvent(response, 'MODIFIED', node('a2', '3'));
        sendEvent(response, 'MODIFIED', node('a2', '3'));
        sendEvent(response, 'DELETED', node('a1', '4'));
      },
    ];
    const reflector = start();
    await vi.waitFor(() => expect(changes).toEqual(['+a1', '+a2', '~a2', '-a1']));
    expect(reflector.inGroup('a').map((object) => object.metadata.name)).toEqual(['a2']);
  });

  it('lists again when its version has expired, and notices what went meanwhile', async () => {
    server.lists = [list('1', [node('a1', '1'), node('a2', '1')]), list('50', [node('a2', '1')])];
    server.watches = [(response) => sendEvent(response, 'ERROR', { code: 410, reason: 'Expired' }), idle];
    start();
    await vi.waitFor(() => expect(changes).toEqual(['+a1', '+a2', '-a1']));
    expect(restarts).toEqual(['expired']);
  });

  it('goes on from the last bookmark after the connection is cut, without another list', async () => {
    server.lists = [list('1', [node('a1', '1')])];
    server.watches = [idle];
    start();
    await vi.waitFor(() => expect(server.requests).toHaveLength(2));
    await new Promise((resolve) => setTimeout(resolve, 20));
    server.resetConnections();
    await vi.waitFor(() => expect(server.requests.length).toBeGreaterThan(2));
    expect(server.requests[2]?.searchParams.get('resourceVersion')).toBe('100');
    expect(changes).toEqual(['+a1']);
  });

  it('hands every object over again within the time of a resync, a few at a time', async () => {
    const names = Array.from({ length: 130 }, (_, index) => `a${index}`);
    server.lists = [
      list(
        '7',
        names.map((name) => node(name, '1')),
      ),
    ];
    server.watches = [idle];
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      const reflector = start({ resyncMilliseconds: 60_000 });
      await reflector.synced;
      changes = [];
      vi.advanceTimersByTime(59_000);
      expect(changes).toEqual([]);
      const shares = Array.from({ length: 60 }, () => {
        const before = changes.length;
        vi.advanceTimersByTime(1000);
        return changes.length - before;
      });
      expect(Math.max(...shares)).toBe(3);
      expect(changes).toEqual(names.map((name) => `~${name}`));
      vi.advanceTimersByTime(60_000);
      expect(changes).toHaveLength(2 * names.length);
    } finally {
      vi.useRealTimers();
    }
  });

  it('hands nothing over again without a resync', async () => {
    server.lists = [list('7', [node('a1', '1')])];
    server.watches = [idle];
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      const reflector = start();
      await reflector.synced;
      vi.advanceTimersByTime(3_600_000);
      expect(changes).toEqual(['+a1']);
    } finally {
      vi.useRealTimers();
    }
  });

  it('takes a silent watch for dead', async () => {
    server.lists = [list('1', [])];
    server.watches = [idle];
    start({ inactivityTimeoutMilliseconds: 30 });
    await vi.waitFor(() => expect(restarts.slice(0, 2)).toEqual(['inactive', 'inactive']));
  });

  it('survives a server that refuses, throttles and talks nonsense', async () => {
    server.lists = [
      (response) => sendJson(response, { message: 'no' }, 500),
      (response) => sendJson(response, { reason: 'TooManyRequests' }, 429),
      (response) => response.end('not json'),
      (response) => response.destroy(),
      list('1', [node('a1', '1')]),
    ];
    server.watches = [(response) => response.end('{"type":\n'), idle];
    const reflector = start();
    await reflector.synced;
    expect(reflector.get('a1')).toBeDefined();
  });

  it('leaves out what it cannot read, and is not stopped by a handler that throws', async () => {
    server.lists = [list('1', [node('unreadable', '1'), node('explosive', '1'), node('a1', '1')])];
    server.watches = [idle];
    const reflector = start();
    await reflector.synced;
    expect(changes).toEqual(['+explosive', '+a1']);
    expect(reflector.get('unreadable')).toBeUndefined();
    expect(unreadable).toEqual([1]);
  });

  it('goes by what it knew of an object that it can no longer read, until that is gone or readable', async () => {
    server.lists = [list('1', [node('a1', '1')]), list('3', [node('a1', '1')])];
    server.watches = [
      (response) => {
        sendEvent(response, 'MODIFIED', node('a1', '2'));
        sendEvent(response, 'ERROR', { code: 410, reason: 'Expired' });
      },
      idle,
    ];
    const reflector = start({
      parse: (raw) => {
        const object = raw as KubernetesObject;
        if (object.metadata.resourceVersion === '2') throw new Error('no such field');
        return object;
      },
    });
    await vi.waitFor(() => expect(unreadable).toEqual([1, 0]));
    expect(reflector.get('a1')).toBeDefined();
    expect(changes).toEqual(['+a1']);
  });
});
