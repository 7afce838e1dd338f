import type { ListenerStats } from './core/stats.ts';

/** Reasons of the core that mean, in whatever phase, that the RDMA device itself is broken or away. */
const deviceReasons: ReadonlySet<string> = new Set([
  'DeviceFatal',
  'DeviceRemoved',
  'DeviceNotFound',
  'NoRdmaDevice',
  'RdmaUnavailable',
  'ManagementQueuePairDead',
]);

/** Reasons for which a port may be `Failed` although its device is well. Every other reason is held against the device. */
const otherReasons: ReadonlySet<string> = new Set([
  'AddressNotAvailable',
  'MemoryRegistrationFailed',
  'PollerNotStarted',
  'PollersNotRunning',
  'PortInUse',
]);

/**
 * Whether the RDMA device behind a listener works as far as its port can tell: what condition `DeviceHealthy` and
 * metric `weir_target_device_healthy` say. A link that is down, a port number in use or a lack of memory that may be
 * locked is no fault of a device.
 */
export function isDeviceHealthy({ phase, reason }: Pick<ListenerStats, 'phase' | 'reason'>): boolean {
  if (phase === 'Serving' || phase === 'Degraded') return true;
  if (deviceReasons.has(reason)) return false;
  return phase !== 'Failed' || otherReasons.has(reason);
}
