import { expect, test } from 'vitest';
import { RDMA_RESOURCE } from './node-files.ts';
import { isNodeReady } from './node-readiness.ts';

const ready = [{ type: 'Ready', status: 'True' }];

test('a node is ready when its kubelet says so and RDMA devices are on offer', () => {
  expect(isNodeReady({ status: { conditions: ready, allocatable: { [RDMA_RESOURCE]: '100' } } })).toBe(true);
});

test('a node without RDMA devices on offer is not ready', () => {
  expect(isNodeReady({ status: { conditions: ready, allocatable: { cpu: '2' } } })).toBe(false);
});

test('a node whose kubelet has not reported is not ready', () => {
  expect(isNodeReady({})).toBe(false);
});
