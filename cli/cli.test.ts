import { describe, expect, it } from 'vitest';
import { showHistory } from './history.ts';
import { showHosts } from './hosts.ts';
import { parseSpan, showSpan } from './spans.ts';
import { showStatus } from './status.ts';
import { NOW, sampleView } from './testing/sample-view.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const NOTHING = { targets: [], nodes: [], events: [] };
const words = (text: string): string => text.replaceAll(/ {2,}/g, ' ');

describe('kubectl weir status', () => {
  const text = words(showStatus(sampleView, NOW));

  it('says of each target how many nodes serve it, how many hosts it has, and why it is not ready', () => {
    expect(text).toContain('storage/fast False 1/2 2 NodesNotReady node-b: the link of rdma0 is down');
  });

  it('says of each listener what it does, since when, and what its last outage was', () => {
    expect(text).toContain(
      'storage/fast node-a storage 10.9.0.1:4420 rxe0 up Serving 14h 6 14h ago, 4.2s: LinkDown',
    );
    expect(text).toContain(
      'storage/fast node-b storage [fd00::2]:4420 rxe0 DOWN Down 90s - now, for 90s: LinkDown',
    );
  });

  it('says when there is nothing', () => {
    expect(showStatus(NOTHING, NOW)).toBe('no NvmeofTargets');
  });
});

describe('kubectl weir hosts', () => {
  it('puts the paths of a host together: over which node and listener, from where, since when', () => {
    const lines = words(showHosts(sampleView, NOW)).split('\n');
    const path = 'nqn.2014-08.org.nvmexpress:uuid:a storage/fast node-a storage';
    expect(lines).toEqual([
      'HOST TARGET NODE LISTENER FROM QUEUES SINCE',
      `${path} 10.9.0.2 3 2h`,
      `${path} 10.9.0.3 3 2h`,
    ]);
  });

  it('counts the hosts that the status does not name', () => {
    const nodes = sampleView.nodes.map((node) => ({
      ...node,
      status: { ...node.status, connectedHosts: 66 },
    }));
    expect(showHosts({ ...sampleView, nodes }, NOW)).toContain('and 130 more');
  });

  it('says when nobody is connected', () => {
    expect(showHosts(NOTHING, NOW)).toBe('no hosts are connected');
  });
});

describe('kubectl weir history', () => {
  it('tells outages and Events together, newest first', () => {
    const lines = words(showHistory(sampleView, DAY_MS, NOW))
      .split('\n')
      .slice(1);
    expect(lines).toEqual([
      '2026-11-23 09:58:30 storage/fast node-b storage OUTAGE, goes on: LinkDown',
      '2026-11-23 09:50:00 storage/fast-node-a Warning: LinkFlapping (7 times): listener storage: link rdma0 flaps',
      '2026-11-22 19:59:55 4.2s storage/fast node-a storage outage: LinkDown: rdma0 is down',
    ]);
  });

  it('goes back as far as it is asked to, but tells every outage that goes on', () => {
    const text = showHistory(sampleView, 60_000, NOW);
    expect(text).toContain('OUTAGE, goes on');
    expect(text).not.toContain('LinkFlapping');
  });

  it('says when nothing happened, and when Events may not be read', () => {
    expect(showHistory(NOTHING, DAY_MS, NOW)).toBe('nothing happened in the last 24h');
    expect(showHistory({ ...NOTHING, events: undefined }, DAY_MS, NOW)).toContain('without Events');
  });
});

describe('lengths of time', () => {
  it.each([
    [0, '0.0s'],
    [4230, '4.2s'],
    [90_000, '90s'],
    [7_100_000, '118m'],
    [7_300_000, '2h'],
    [3 * DAY_MS, '3d'],
  ])('%d ms are shown as %s', (milliseconds, text) => {
    expect(showSpan(milliseconds)).toBe(text);
  });

  it.each([
    ['90s', 90_000],
    ['2d', 2 * DAY_MS],
    ['3x', undefined],
    ['', undefined],
  ])('%s is read as %s ms', (text, milliseconds) => {
    expect(parseSpan(text)).toBe(milliseconds);
  });
});
