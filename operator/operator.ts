/** The operator as a whole: watches, leader election, workers, endpoints; from start to orderly end. */
import { randomUUID } from 'node:crypto';
import type { Server } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import { hostname } from 'node:os';
import type { KubeConfig } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import { ApiClient } from './kubernetes/api-client.ts';
import { FencedApi } from './leader-election/fenced-api.ts';
import { LeaderElector } from './leader-election/leader-elector.ts';
import { ApiLeaseStore, LEASE_NAME } from './leader-election/lease.ts';
import { serveHttp } from './observability/http-server.ts';
import { createOperatorMetrics } from './observability/metrics.ts';
import { askCluster, ScrapeAccess } from './observability/scrape-access.ts';
import { operatorVersion } from './observability/version.ts';
import type { OperatorOptions } from './options.ts';
import { TargetController, watchedResources } from './target/controller.ts';
import { WorkQueue } from './work-queue/work-queue.ts';

/** Why the operator ended. */
export type OperatorEnd = 'stopped' | 'leadership lost';

/** A running operator. */
export interface RunningOperator {
  /** Port of /metrics, /healthz and /readyz. */
  readonly port: number;
  /** Settles when the operator has ended. */
  readonly ended: Promise<OperatorEnd>;
}

function closeServer(server: Server | TlsServer): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}

/** Starts the operator. It ends when the signal aborts: work at hand is finished, then the lease is given up. */
export async function startOperator(
  config: KubeConfig,
  options: OperatorOptions,
  logger: Logger,
  signal: AbortSignal,
): Promise<RunningOperator> {
  const metrics = createOperatorMetrics(watchedResources(options.dataplane));
  metrics.setVersion(operatorVersion());
  const api = new ApiClient(config, metrics.onRequest);
  const elector = options.leaderElect ? createElector(api, options, logger) : undefined;
  const controller = new TargetController({
    api: elector === undefined ? api : new FencedApi(api, () => elector.mayWrite),
    queue: new WorkQueue(metrics.queue),
    settings: options.dataplane,
    logger,
    watchObserver: metrics.watch,
    workObserver: metrics.work,
    targetObserver: metrics.targets,
  });
  const { server, port } = await serveHttp({
    address: options.metricsAddress,
    tlsDirectory: options.metricsTlsDirectory,
    access: options.dataplane.metricsAuthentication ? new ScrapeAccess(askCluster(config)) : undefined,
    onReload: (problem) =>
      problem === undefined
        ? logger.info('the certificate of the endpoints was read anew')
        : logger.error({ problem }, 'the former certificate of the endpoints is kept'),
    registry: metrics.registry,
    healthy: () => undefined,
    // A replica that waits for the lease is ready: its caches are warm and it can take over at once.
    ready: () => (controller.hasSynced ? undefined : 'the caches are not filled yet'),
  });
  logger.info({ port }, 'serving /metrics, /healthz and /readyz');

  const runToEnd = async (): Promise<OperatorEnd> => {
    const stopWatching = new AbortController();
    const watching = controller.watch(stopWatching.signal);
    try {
      const end = await lead(elector, logger, controller, metrics.setLeader, signal);
      // Another replica may be at work already: what is under way here must not arrive any more.
      if (end === 'leadership lost') api.reset();
      return end;
    } finally {
      stopWatching.abort();
      await watching;
      await closeServer(server);
      api.close();
    }
  };
  return { port, ended: runToEnd() };
}

function createElector(api: ApiClient, options: OperatorOptions, logger: Logger): LeaderElector {
  const { namespace, leaderElectionTimes: times } = options;
  return new LeaderElector({
    store: new ApiLeaseStore(api, namespace, LEASE_NAME),
    identity: `${hostname()}_${randomUUID()}`,
    logger,
    ...(times === undefined ? {} : { times }),
  });
}

/** Works while this replica leads: from the moment at which it does, or at once without an elector. */
async function lead(
  elector: LeaderElector | undefined,
  logger: Logger,
  controller: TargetController,
  setLeader: (isLeader: boolean) => void,
  signal: AbortSignal,
): Promise<OperatorEnd> {
  if (elector === undefined) {
    setLeader(true);
    await controller.work(signal);
    return 'stopped';
  }
  if (!(await elector.acquire(signal))) return 'stopped';
  setLeader(true);
  const lost = new AbortController();
  const holding = elector.hold(signal);
  const working = controller.work(AbortSignal.any([signal, lost.signal]));
  const outcome = await Promise.race([holding, working.then(() => 'aborted' as const)]);
  setLeader(false);
  if (outcome === 'lost') {
    lost.abort();
    return 'leadership lost';
  }
  await Promise.all([working, holding]);
  await elector
    .release()
    .catch((error: unknown) => logger.warn({ err: error }, 'could not release the lease'));
  return 'stopped';
}
