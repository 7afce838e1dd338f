/** Entry point of weir-operator. */
import { KubeConfig } from '@kubernetes/client-node';
import { createLogger } from './observability/logger.ts';
import { startOperator } from './operator.ts';
import { parseOptions } from './options.ts';

/** The process ended because it no longer leads: Kubernetes starts it again. */
const EXIT_LEADERSHIP_LOST = 3;

/** Longest orderly end; below the pod's termination grace period. */
const SHUTDOWN_TIMEOUT_MS = 20_000;

const options = parseOptions(process.argv.slice(2));
const logger = createLogger(options.logLevel);

// Reconciles and watches handle their own failures. What arrives here is a defect: it is told and counted as such,
// and takes no target down with it.
process.on('unhandledRejection', (error) => logger.error({ err: error }, 'unhandled rejection'));

const stop = new AbortController();
for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.once(name, () => {
    logger.info({ signal: name }, 'stopping');
    stop.abort();
    setTimeout(() => {
      logger.error('the orderly end takes too long; leaving');
      process.exit(1);
    }, SHUTDOWN_TIMEOUT_MS).unref();
  });
}

const config = new KubeConfig();
config.loadFromDefault();
try {
  const { ended } = await startOperator(config, options, logger, stop.signal);
  const end = await ended;
  logger.info({ end }, 'ended');
  process.exit(end === 'leadership lost' ? EXIT_LEADERSHIP_LOST : 0);
} catch (error) {
  logger.fatal({ err: error }, 'could not start');
  process.exit(1);
}
