/** What the chart (or the command line) decides for all targets. */
import type { LOG_LEVELS } from './observability/logger.ts';

/**
 * How a dataplane's container may open the RDMA devices.
 * - `DevicePlugin`: a device plugin grants them as an extended resource.
 * - `ResourceClaim`: Dynamic Resource Allocation grants one of a device class (Kubernetes 1.34).
 * - `HostDevices`: /dev/infiniband is mounted; the container runtime must permit the devices by itself.
 * - `Privileged`: the container is privileged. Works everywhere, confines nothing.
 */
export const DEVICE_ACCESS_MODES = ['DevicePlugin', 'ResourceClaim', 'HostDevices', 'Privileged'] as const;

/** See {@link DEVICE_ACCESS_MODES}. */
export type DeviceAccessMode = (typeof DEVICE_ACCESS_MODES)[number];

/** Ports from which each target gets one for metrics and health, both ends included. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Settings of every dataplane pod. */
export interface DataplaneSettings {
  readonly image: string;
  readonly imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never';
  readonly imagePullSecrets: readonly string[];
  /** Priority class of pods whose target names none; undefined: the cluster's default. */
  readonly priorityClassName: string | undefined;
  /** /metrics, of the operator too, asks for a token: see observability/scrape-access.ts. */
  readonly metricsAuthentication: boolean;
  /** Name of a Secret of the target's namespace with `tls.crt` and `tls.key` for metrics; undefined: plain HTTP. */
  readonly metricsTlsSecret: string | undefined;
  readonly deviceAccess: DeviceAccessMode;
  /** Extended resource of the device plugin, for `DevicePlugin`. */
  readonly deviceResource: string;
  /** DeviceClass, for `ResourceClaim`; empty otherwise. */
  readonly deviceClass: string;
  /** What pods are guaranteed unless their target says otherwise. */
  readonly requests: { readonly cpu: string; readonly memory: string };
  /** `RuntimeDefault`, `Unconfined`, or `Localhost/<path>` for a profile that the nodes hold. */
  readonly seccompProfile: string;
  readonly logLevel: (typeof LOG_LEVELS)[number];
  readonly portRange: PortRange;
  /** Directories of the node below which `file` backends may lie. */
  readonly fileDirectories: readonly string[];
  /** Directories of the node below which `blockDevice` backends may lie. */
  readonly deviceDirectories: readonly string[];
}
