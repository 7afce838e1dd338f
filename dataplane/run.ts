/** One run of the program, from its command line to its exit code. */
import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import { constants } from 'node:os';
import { join } from 'node:path';
import { TlsFilesError } from '../operator/observability/endpoint-server.ts';
import type { ScrapeAccess } from '../operator/observability/scrape-access.ts';
import { ClusterUnavailableError } from './cluster/cluster-unavailable-error.ts';
import type { Core, CoreDirectories } from './core/core.ts';
import { CoreError } from './core/errors.ts';
import { Dataplane } from './dataplane.ts';
import { exitCodes } from './exit-codes.ts';
import { exitFarewell, signalFarewell } from './farewell.ts';
import { MetricsAddressError, startHttpServer } from './http-server.ts';
import type { createLogger } from './logging.ts';
import { type Options, parseOptions, type SourceOptions, UsageError } from './options.ts';
import { type SecretsWatch, watchSecrets } from './secrets.ts';
import type { Source } from './source.ts';
import { ConfigFileError } from './standalone/config-file.ts';
import { fileSource } from './standalone/file-source.ts';

/** What the program takes from its surroundings; tests bring their own. */
export interface Surroundings {
  argv: readonly string[];
  environment: Readonly<Record<string, string | undefined>>;
  /** Where Weir is installed. */
  rootDirectory: string;
  openCore(libraryPath: string, nodeName: string, directories: CoreDirectories): Core;
  /** Text for the person at the terminal. */
  print(text: string): void;
  createLogger: typeof createLogger;
  /** Calls back for every request to stop. */
  onStopSignal(listener: (signal: 'SIGTERM' | 'SIGINT') => void): void;
  /** Ends the process at once. */
  exitNow(code: number): void;
  /** Told when probes are served; tests learn the port. */
  onListening?(server: Server | TlsServer): void;
}

/**
 * Longest wait for the last word of a process that ends by itself: the core waits no longer than 3 s for it, and every
 * second is one in which the next process could have served.
 */
const exitFarewellMilliseconds = 2000;

/** The same after a drain that was asked for; the pod's grace period has 15 s for all that follows the drain. */
const stopFarewellMilliseconds = 5000;

/** The core ends the process. */
interface CoreExit {
  exitCode: number;
  message: string;
}

/** Serves until told to stop. Resolves with the exit code of the process; see exit-codes.ts. */
export async function run(surroundings: Surroundings): Promise<number> {
  const version = readVersion(surroundings.rootDirectory);
  let options: Options;
  try {
    options = parseOptions(
      surroundings.argv,
      surroundings.environment,
      surroundings.rootDirectory,
      version,
      surroundings.print,
    );
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return error.harmless ? exitCodes.ok : exitCodes.usage;
  }
  const stop = Promise.withResolvers<string>();
  let asked = false;
  surroundings.onStopSignal((signal) => {
    if (asked) surroundings.exitNow(128 + constants.signals[signal]);
    asked = true;
    stop.resolve(signal);
  });
  try {
    return await serve(options, surroundings, version, stop.promise);
  } catch (error) {
    const code = userErrorCode(error);
    if (code === undefined || !(error instanceof Error)) throw error;
    for (const line of error.message.split('\n')) surroundings.print(`weir-dataplane: ${line}\n`);
    return code;
  }
}

async function serve(
  options: Options,
  surroundings: Surroundings,
  version: string,
  stopped: Promise<string>,
): Promise<number> {
  const source = await openSource(options.source, version);
  const { identity } = source;
  const logger = surroundings.createLogger(options.logLevel, identity);
  const { stateDirectory, secretsDirectory } = options;
  const core = surroundings.openCore(options.coreLibrary, identity.node, {
    stateDirectory,
    secretsDirectory,
  });
  const coreExit = Promise.withResolvers<CoreExit>();
  core.onEvent(({ known }) => {
    if (known?.type === 'fatal') coreExit.resolve(known);
  });
  let server: Server | TlsServer | undefined;
  let secrets: SecretsWatch | undefined;
  try {
    const dataplane = new Dataplane(core, logger, identity, version);
    server = await startHttpServer(
      options.metricsAddress,
      dataplane,
      { tlsDirectory: options.metricsTlsDirectory, access: await openScrapeAccess(options) },
      (problem) =>
        problem === undefined
          ? logger.info('the certificate of the endpoints was read anew')
          : logger.error({ problem }, 'the former certificate of the endpoints is kept'),
    );
    surroundings.onListening?.(server);
    const followed = source.start(dataplane, core, logger);
    if (secretsDirectory !== undefined) secrets = watchSecrets(secretsDirectory, dataplane, logger);
    logger.info({ version, metricsAddress: options.metricsAddress }, 'serving');

    const end = await Promise.race([stopped, coreExit.promise]);
    if (typeof end !== 'string') {
      followed.stop();
      await atMost(followed.finish(exitFarewell(end.exitCode, end.message)), exitFarewellMilliseconds);
      return end.exitCode;
    }
    const signal = end;
    logger.info({ signal }, 'asked to stop');
    followed.stop();
    const result = await dataplane.drain(options.drainTimeoutSeconds);
    if (result === 'timedOut') logger.warn('I/O was still in flight when the drain timeout was over');
    await atMost(followed.finish(signalFarewell(signal, result)), stopFarewellMilliseconds);
    return exitCodes.ok;
  } finally {
    secrets?.close();
    core.close();
    server?.close();
    server?.closeAllConnections();
    logger.flush();
  }
}

/** Waits for it, but no longer than this. */
async function atMost(work: Promise<void>, milliseconds: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds);
  });
  try {
    await Promise.race([work, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

async function openSource(options: SourceOptions, version: string): Promise<Source> {
  if (options.kind === 'file') return fileSource(options.path);
  // The Kubernetes client is large; standalone does without.
  const { clusterSource } = await import('./cluster/cluster-source.ts');
  return clusterSource(options, version);
}

async function openScrapeAccess(options: Options): Promise<ScrapeAccess | undefined> {
  if (!options.metricsAuthentication) return undefined;
  const { clusterScrapeAccess } = await import('./cluster/cluster-source.ts');
  return clusterScrapeAccess();
}

function readVersion(rootDirectory: string): string {
  const text = readFileSync(join(rootDirectory, 'package.json'), 'utf8');
  const { version } = JSON.parse(text) as { version: string };
  return version;
}

/** The exit code of an error that the person who runs the program can mend; `undefined` for all others. */
function userErrorCode(error: unknown): number | undefined {
  if (error instanceof ConfigFileError || error instanceof TlsFilesError) return exitCodes.configuration;
  if (error instanceof MetricsAddressError || error instanceof ClusterUnavailableError) {
    return exitCodes.unavailable;
  }
  if (error instanceof CoreError) {
    return error.reason === 'InvalidSpec' ? exitCodes.configuration : exitCodes.unavailable;
  }
  return undefined;
}
