import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { targetNodeName } from '../crds/object-names.ts';
import { type MetricsAddress, parseMetricsAddress } from './http-server.ts';
import { type LogLevel, logLevels } from './logging.ts';

/** Where the desired state comes from. */
export type SourceOptions =
  | { kind: 'file'; path: string }
  /** `node` and `target` are known before the object is: they label the first metrics. `pod`: where this runs. */
  | {
      kind: 'cluster';
      namespace: string;
      name: string;
      node: string;
      target: string;
      pod?: string | undefined;
    };

/** The command line and the environment, checked. */
export interface Options {
  source: SourceOptions;
  metricsAddress: MetricsAddress;
  /** /metrics only for accounts of the cluster that may get it. */
  metricsAuthentication: boolean;
  /** Directory with `tls.crt` and `tls.key` for the endpoints; without: plain HTTP. */
  metricsTlsDirectory: string | undefined;
  coreLibrary: string;
  logLevel: LogLevel;
  /** Where the core leaves notes for the next process; without, no device is made anew. */
  stateDirectory: string | undefined;
  /** Directories of the names of Secrets, with keys of hosts; without, hosts that must authenticate are refused. */
  secretsDirectory: string | undefined;
  /** Overrides `link.drainTimeoutSeconds` of the desired state when the process leaves. */
  drainTimeoutSeconds: number | undefined;
}

/** The command line is wrong, or only asked for help. Everything was printed already. */
export class UsageError extends Error {
  readonly code = 'WEIR_USAGE';
  /** Nothing is wrong: help or the version was asked for. */
  readonly harmless: boolean;

  constructor(harmless: boolean) {
    super('usage');
    this.harmless = harmless;
  }
}

/**
 * Reads the command line (without `node` and the script) and the environment.
 *
 * @param rootDirectory where Weir is installed: the native core is at dist/native or lib below it.
 * @param print gets what people should read.
 * @throws {UsageError}
 */
export function parseOptions(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  rootDirectory: string,
  version: string,
  print: (text: string) => void,
): Options {
  const program = new Command('weir-dataplane')
    .description('Serves NVMe-oF over RDMA on this machine: from a file, or from an NvmeofTargetNode.')
    .version(version)
    .option('--config <file>', 'standalone: YAML file with the spec of an NvmeofTargetNode; followed live')
    .option('--namespace <namespace>', 'in a cluster: namespace of the NvmeofTargetNode')
    .option('--name <name>', 'in a cluster: name of the NvmeofTargetNode')
    .addOption(
      new Option('--metrics-address <host:port>', 'where /metrics, /healthz and /readyz are served')
        .default(parseMetricsAddress('127.0.0.1:9810'), '127.0.0.1:9810')
        .argParser(metricsAddress),
    )
    .option(
      '--metrics-authentication',
      'in a cluster: /metrics only for accounts that may get the nonResourceURL /metrics',
      false,
    )
    .option(
      '--metrics-tls-directory <directory>',
      'HTTPS with its tls.crt and tls.key, read anew when they change',
    )
    .addOption(
      new Option('--core-library <file>', 'the native core; also WEIR_CORE_LIBRARY').default(
        environment['WEIR_CORE_LIBRARY'] || join(rootDirectory, 'dist/native/libweir_core.so'),
      ),
    )
    .addOption(
      new Option('--log-level <level>', 'least level that is logged').choices(logLevels).default('info'),
    )
    .option(
      '--state-directory <directory>',
      'outlives the process; needed for link.recreateSoftDevice: the next start finds there what to do',
    )
    .option(
      '--secrets-directory <directory>',
      "keys of hosts (access.hosts[].dhchap): NAME/hostKey and NAME/controllerKey for each Secret's name; followed live",
    )
    .option(
      '--drain-timeout-seconds <seconds>',
      'longest wait for in-flight I/O when leaving (default: link.drainTimeoutSeconds of the desired state)',
      drainTimeout,
    )
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ writeOut: print, writeErr: print });
  try {
    program.parse(argv, { from: 'user' });
    const flags = program.opts<Flags>();
    return {
      source: sourceOf(flags, environment, program),
      metricsAddress: flags.metricsAddress,
      metricsAuthentication: flags.metricsAuthentication,
      metricsTlsDirectory: flags.metricsTlsDirectory,
      coreLibrary: flags.coreLibrary,
      logLevel: flags.logLevel,
      stateDirectory: flags.stateDirectory,
      secretsDirectory: flags.secretsDirectory,
      drainTimeoutSeconds: flags.drainTimeoutSeconds,
    };
  } catch (error) {
    if (error instanceof CommanderError) throw new UsageError(error.exitCode === 0);
    throw error;
  }
}

interface Flags {
  config?: string;
  namespace?: string;
  name?: string;
  metricsAddress: MetricsAddress;
  metricsAuthentication: boolean;
  metricsTlsDirectory?: string;
  coreLibrary: string;
  logLevel: LogLevel;
  stateDirectory?: string;
  secretsDirectory?: string;
  drainTimeoutSeconds?: number;
}

function sourceOf(
  flags: Flags,
  environment: Readonly<Record<string, string | undefined>>,
  program: Command,
): SourceOptions {
  const { config, namespace, name } = flags;
  if (config !== undefined) {
    if (namespace !== undefined || name !== undefined) {
      program.error('error: --config serves without a cluster: give either it or --namespace and --name');
    }
    if (flags.metricsAuthentication) {
      program.error('error: --metrics-authentication asks a cluster, and --config serves without one');
    }
    return { kind: 'file', path: config };
  }
  const node = environment['NODE_NAME'] ?? '';
  const target = environment['TARGET'];
  const objectName = name ?? ownObjectName(target, node);
  if (namespace === undefined || objectName === undefined) {
    program.error(
      'error: give --config FILE to serve from a file, or --namespace and --name (or TARGET and NODE_NAME in the environment) in a cluster',
    );
  }
  return {
    kind: 'cluster',
    namespace,
    name: objectName,
    node,
    target: target ?? `${namespace}/${objectName}`,
    pod: environment['POD_NAME'],
  };
}

/** A pod of the operator knows its target and its node; the name of its object follows from the two. */
function ownObjectName(target: string | undefined, node: string): string | undefined {
  const targetName = target?.split('/')[1];
  return targetName === undefined || node === '' ? undefined : targetNodeName(targetName, node);
}

function metricsAddress(text: string): MetricsAddress {
  try {
    return parseMetricsAddress(text);
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
  }
}

function drainTimeout(text: string): number {
  const seconds = Number(text);
  if (!Number.isInteger(seconds) || seconds < 0 || seconds > 3600) {
    throw new InvalidArgumentError('a whole number of seconds from 0 to 3600 is expected');
  }
  return seconds;
}
