import { RDMA_RESOURCE } from './node-files.ts';

/** The part of a Node object that readiness is read from. */
export interface NodeObject {
  status?: {
    conditions?: readonly { type: string; status: string }[];
    allocatable?: Readonly<Record<string, string>>;
  };
}

/** Whether pods can be placed on a node and have its RDMA devices. */
export function isNodeReady(node: NodeObject): boolean {
  const ready =
    node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
  return ready && Number(node.status?.allocatable?.[RDMA_RESOURCE] ?? 0) > 0;
}
