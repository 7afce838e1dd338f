/** How the process ends; docs/how-to/operations.md explains each to the people who see them. */
export const exitCodes = {
  /** Drained and left as asked. */
  ok: 0,
  /** The command line is wrong. */
  usage: 64,
  /** The native core, the metrics address or the cluster cannot be used. */
  unavailable: 69,
  /** A bug: the native core met a state that must not be. The core ends the process itself. */
  software: 70,
  /** An RDMA device was removed: a fresh process is needed. The core ends the process itself. */
  deviceRemoved: 75,
  /** A soft RDMA device is to be made anew by the next process. The core ends the process itself. */
  recreateDevice: 76,
  /** The configuration file cannot be used at the start. */
  configuration: 78,
} as const;
