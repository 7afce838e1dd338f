/** The command line of weir-operator. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { LEADER_ELECTION_TIMES, type LeaderElectionTimes } from './leader-election/leader-elector.ts';
import { LOG_LEVELS } from './observability/logger.ts';
import { type DataplaneSettings, DEVICE_ACCESS_MODES, type PortRange } from './settings.ts';

/** What the command line says. */
export interface OperatorOptions {
  readonly namespace: string;
  readonly metricsAddress: string;
  /** Directory with `tls.crt` and `tls.key` for the endpoints; without: plain HTTP. */
  readonly metricsTlsDirectory?: string | undefined;
  readonly leaderElect: boolean;
  /** Default: {@link LEADER_ELECTION_TIMES}. */
  readonly leaderElectionTimes?: LeaderElectionTimes;
  readonly logLevel: (typeof LOG_LEVELS)[number];
  readonly dataplane: DataplaneSettings;
}

const SERVICE_ACCOUNT_NAMESPACE_DEFAULT = 'weir-system';

/** Ports below this need privileges; a host's ephemeral ports begin above the default range. */
const PORT_MIN = 1024;

function parsePortRange(text: string): PortRange {
  const match = /^([0-9]{1,5})-([0-9]{1,5})$/.exec(text);
  const [first, last] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || first < PORT_MIN || last > 65535 || first > last) {
    throw new InvalidArgumentError(`write FIRST-LAST with ports from ${PORT_MIN} to 65535, like 9810-9899.`);
  }
  return { first, last };
}

function parseDirectory(text: string, previous: readonly string[] | undefined): string[] {
  if (!text.startsWith('/') || `${text}/`.includes('/../')) {
    throw new InvalidArgumentError('write an absolute path without .. parts.');
  }
  return [...(previous ?? []), text];
}

function parseSeccompProfile(text: string): string {
  if (/^(RuntimeDefault|Unconfined|Localhost\/[^/].*)$/.test(text)) return text;
  throw new InvalidArgumentError('write RuntimeDefault, Unconfined or Localhost/PATH.');
}

/** Seconds of `15s` or `500ms`. */
function parseSeconds(text: string): number {
  const match = /^([0-9]{1,6})(s|ms)$/.exec(text);
  const seconds = Number(match?.[1]) / (match?.[2] === 'ms' ? 1000 : 1);
  if (match === null || seconds === 0) throw new InvalidArgumentError('write a time like 15s or 500ms.');
  return seconds;
}

function collect(text: string, previous: readonly string[] | undefined): string[] {
  return [...(previous ?? []), text];
}

interface RawOptions {
  readonly namespace: string;
  readonly metricsAddress: string;
  readonly metricsAuthentication: boolean;
  readonly metricsTlsDirectory?: string;
  readonly leaderElect: boolean;
  readonly leaderElectLeaseDuration: number;
  readonly leaderElectRenewDeadline: number;
  readonly leaderElectRetryPeriod: number;
  readonly logLevel: OperatorOptions['logLevel'];
  readonly dataplaneImage: string;
  readonly dataplaneImagePullPolicy: DataplaneSettings['imagePullPolicy'];
  readonly dataplaneImagePullSecret?: string[];
  readonly dataplaneMetricsTlsSecret?: string;
  readonly dataplanePriorityClass?: string;
  readonly dataplaneLogLevel: DataplaneSettings['logLevel'];
  readonly deviceAccess: DataplaneSettings['deviceAccess'];
  readonly deviceResource: string;
  readonly deviceClass: string;
  readonly dataplaneCpuRequest: string;
  readonly dataplaneMemoryRequest: string;
  readonly seccompProfile: DataplaneSettings['seccompProfile'];
  readonly portRange: PortRange;
  readonly fileDirectory?: string[];
  readonly deviceDirectory?: string[];
}

function command(): Command {
  return new Command('weir-operator')
    .description('Runs NvmeofTargets: a dataplane pod on each selected node, and their state in the status.')
    .option('--namespace <name>', 'namespace of the leader lease', SERVICE_ACCOUNT_NAMESPACE_DEFAULT)
    .option('--metrics-address <host:port>', 'serves /metrics, /healthz and /readyz', '0.0.0.0:8080')
    .option(
      '--metrics-authentication',
      '/metrics, here and of the dataplanes, only for accounts that may get the nonResourceURL /metrics',
      false,
    )
    .option(
      '--metrics-tls-directory <directory>',
      'HTTPS with its tls.crt and tls.key, read anew when they change',
    )
    .option('--leader-elect', 'work only while holding the lease; needed with more than one replica', false)
    .option(
      '--leader-elect-lease-duration <time>',
      'whole seconds; others wait this long after the last renewal they saw',
      parseSeconds,
      LEADER_ELECTION_TIMES.leaseSeconds,
    )
    .option(
      '--leader-elect-renew-deadline <time>',
      'a leader that could not renew for this long steps down; shorter than the lease',
      parseSeconds,
      LEADER_ELECTION_TIMES.renewDeadlineSeconds,
    )
    .option(
      '--leader-elect-retry-period <time>',
      'from one renewal to the next; shorter than the deadline',
      parseSeconds,
      LEADER_ELECTION_TIMES.retrySeconds,
    )
    .addOption(
      new Option('--log-level <level>', 'least level that is logged').choices(LOG_LEVELS).default('info'),
    )
    .requiredOption('--dataplane-image <image>', 'image of the dataplane pods')
    .addOption(
      new Option('--dataplane-image-pull-policy <policy>', 'when their image is pulled')
        .choices(['Always', 'IfNotPresent', 'Never'])
        .default('IfNotPresent'),
    )
    .option(
      '--dataplane-image-pull-secret <name...>',
      'secrets for pulling it, in the namespace of the target',
      collect,
    )
    .option(
      '--dataplane-metrics-tls-secret <name>',
      'secret with tls.crt and tls.key for their metrics, in the namespace of the target',
    )
    .option('--dataplane-cpu-request <quantity>', 'CPU of those whose target asks for none', '100m')
    .option('--dataplane-memory-request <quantity>', 'memory of those whose target asks for none', '256Mi')
    .option('--dataplane-priority-class <name>', 'priority class of those whose target names none')
    .addOption(
      new Option('--dataplane-log-level <level>', 'their log level').choices(LOG_LEVELS).default('info'),
    )
    .addOption(
      new Option('--device-access <mode>', 'how their containers may open RDMA devices')
        .choices(DEVICE_ACCESS_MODES)
        .default('DevicePlugin'),
    )
    .option('--device-resource <name>', 'extended resource of the device plugin', 'rdma/shared')
    .option('--device-class <name>', 'DeviceClass of the claims, for --device-access ResourceClaim', '')
    .option(
      '--seccomp-profile <profile>',
      'seccomp profile of their containers: RuntimeDefault, Unconfined or Localhost/PATH',
      parseSeccompProfile,
      'RuntimeDefault',
    )
    .addOption(
      new Option('--port-range <first-last>', 'ports of their metrics and health')
        .argParser(parsePortRange)
        .default({ first: 9810, last: 9899 }, '9810-9899'),
    )
    .option(
      '--file-directory <path>',
      'file backends may lie below (repeatable; default /var/lib/weir)',
      parseDirectory,
    )
    .option(
      '--device-directory <path>',
      'block devices may lie below (repeatable; default /dev)',
      parseDirectory,
    );
}

/** Why two replicas could lead at once, or none for long, with these times. */
function problemOf({
  leaseSeconds,
  renewDeadlineSeconds,
  retrySeconds,
}: LeaderElectionTimes): string | undefined {
  // The Lease has whole seconds: a fraction would be lost on the way to the others.
  if (!Number.isInteger(leaseSeconds)) return '--leader-elect-lease-duration must be whole seconds';
  if (renewDeadlineSeconds >= leaseSeconds)
    return '--leader-elect-renew-deadline must be shorter than --leader-elect-lease-duration';
  if (retrySeconds >= renewDeadlineSeconds)
    return '--leader-elect-retry-period must be shorter than --leader-elect-renew-deadline';
  return undefined;
}

/** Reads the command line (without node and script). Ends the process on --help and on what it cannot read. */
export function parseOptions(argv: readonly string[]): OperatorOptions {
  const parser = command().parse(argv, { from: 'user' });
  const raw = parser.opts<RawOptions>();
  const leaderElectionTimes = {
    leaseSeconds: raw.leaderElectLeaseDuration,
    renewDeadlineSeconds: raw.leaderElectRenewDeadline,
    retrySeconds: raw.leaderElectRetryPeriod,
  };
  const problem = problemOf(leaderElectionTimes);
  if (problem !== undefined) parser.error(`error: ${problem}`);
  if (raw.deviceAccess === 'ResourceClaim' && raw.deviceClass === '')
    parser.error('error: --device-access ResourceClaim needs --device-class');
  return {
    namespace: raw.namespace,
    metricsAddress: raw.metricsAddress,
    metricsTlsDirectory: raw.metricsTlsDirectory,
    leaderElect: raw.leaderElect,
    leaderElectionTimes,
    logLevel: raw.logLevel,
    dataplane: {
      image: raw.dataplaneImage,
      imagePullPolicy: raw.dataplaneImagePullPolicy,
      imagePullSecrets: raw.dataplaneImagePullSecret ?? [],
      priorityClassName: raw.dataplanePriorityClass,
      metricsAuthentication: raw.metricsAuthentication,
      metricsTlsSecret: raw.dataplaneMetricsTlsSecret,
      deviceAccess: raw.deviceAccess,
      deviceResource: raw.deviceResource,
      deviceClass: raw.deviceClass,
      requests: { cpu: raw.dataplaneCpuRequest, memory: raw.dataplaneMemoryRequest },
      seccompProfile: raw.seccompProfile,
      logLevel: raw.dataplaneLogLevel,
      portRange: raw.portRange,
      fileDirectories: raw.fileDirectory ?? ['/var/lib/weir'],
      deviceDirectories: raw.deviceDirectory ?? ['/dev'],
    },
  };
}
