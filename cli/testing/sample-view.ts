/** A target on two nodes: one serves, the link of the other is down. */
import type { ClusterView } from '../view.ts';

/** The moment at which the sample is looked at. */
export const NOW = new Date('2026-11-23T10:00:00.000Z');

/** So many seconds before {@link NOW}. */
export const before = (seconds: number): string => new Date(NOW.getTime() - seconds * 1000).toISOString();

const condition = (status: 'True' | 'False', reason: string, message: string) => ({
  type: 'Ready',
  status,
  lastTransitionTime: before(60),
  reason,
  message,
});

const host = (controllerID: number, source: string) => ({
  subsystem: 'nqn.2026-11.dev.weir:fast',
  hostNQN: 'nqn.2014-08.org.nvmexpress:uuid:a',
  controllerID,
  listener: 'storage',
  source,
  queues: 3,
  connectedSince: before(7300),
});

const listener = { name: 'storage', port: 4420, device: 'rxe0', netdev: 'rdma0', memoryRegions: 4 };

/** See the head of this file. */
export const sampleView: ClusterView = {
  targets: [
    {
      metadata: { namespace: 'storage', name: 'fast' },
      status: {
        nodes: '1/2',
        connectedHosts: 2,
        conditions: [condition('False', 'NodesNotReady', 'node-b: the link of rdma0 is down')],
      },
    },
  ],
  nodes: [
    {
      metadata: { namespace: 'storage', name: 'fast-node-a' },
      spec: { target: 'storage/fast', nodeName: 'node-a' },
      status: {
        connectedHosts: 2,
        hosts: [host(2, '10.9.0.3'), host(1, '10.9.0.2')],
        listeners: [
          {
            ...listener,
            address: '10.9.0.1',
            linkUp: true,
            phase: 'Serving',
            epoch: 3,
            lastTransitionTime: before(50_400),
            queuePairs: { active: 6, draining: 0, quarantined: 0 },
            outages: [
              {
                startTime: before(50_404.2),
                endTime: before(50_400),
                reason: 'LinkDown',
                message: 'rdma0 is down',
              },
            ],
          },
        ],
      },
    },
    {
      metadata: { namespace: 'storage', name: 'fast-node-b' },
      spec: { target: 'storage/fast', nodeName: 'node-b' },
      status: {
        listeners: [
          {
            ...listener,
            address: 'fd00::2',
            linkUp: false,
            phase: 'Down',
            epoch: 1,
            lastTransitionTime: before(90),
            outages: [{ startTime: before(90), reason: 'LinkDown' }],
          },
        ],
      },
    },
  ],
  events: [
    {
      metadata: { namespace: 'storage', name: 'e1' },
      series: { count: 7, lastObservedTime: before(600) },
      type: 'Warning',
      reason: 'LinkFlapping',
      note: 'listener storage: link rdma0 flaps',
      regarding: { kind: 'NvmeofTargetNode', name: 'fast-node-a' },
    },
  ],
};
