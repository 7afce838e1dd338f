import { join } from 'node:path';

/**
 * The RDMA network: a star of reliable, in-order byte streams between QEMU processes, over Unix sockets, so
 * that it needs no privilege, leaves no interface behind, and loses nothing by itself. The first guest holds
 * the hub; each other guest has a line of its own to it.
 */
const LINES_MAX = 16;

/** QEMU's arguments for the network device `rdma` of the guest that holds the hub. */
export function hubArguments(directory: string): string[] {
  const lines = Array.from({ length: LINES_MAX }, (_, index) => index + 1);
  return [
    '-netdev',
    'hubport,id=rdma,hubid=0',
    ...lines.flatMap((line) => [
      '-netdev',
      `stream,id=line${line},server=on,addr.type=unix,addr.path=${lineSocket(directory, line)}`,
      '-netdev',
      `hubport,id=port${line},hubid=0,netdev=line${line}`,
    ]),
  ];
}

/** QEMU's arguments for the network device `rdma` of every other guest. */
export function lineArguments(directory: string, line: number): string[] {
  return ['-netdev', `stream,id=rdma,server=off,addr.type=unix,addr.path=${lineSocket(directory, line)}`];
}

/** Unix socket of one line; it exists as soon as the hub is up. */
export function lineSocket(directory: string, line: number): string {
  return join(directory, `rdma-line-${line}.sock`);
}
