/** `kubectl weir`: what an operator on call asks first. Only reads. */
import { KubeConfig } from '@kubernetes/client-node';
import { Command, InvalidArgumentError } from 'commander';
import { ApiClient } from '../operator/kubernetes/api-client.ts';
import { ApiError } from '../operator/kubernetes/api-error.ts';
import { namesCluster } from '../operator/kubernetes/kubeconfig.ts';
import { showHistory } from './history.ts';
import { showHosts } from './hosts.ts';
import { parseSpan } from './spans.ts';
import { showStatus } from './status.ts';
import { type ClusterView, readCluster, UnknownTargetError } from './view.ts';

/** The call cannot be carried out as it is. */
class UsageError extends Error {}

interface Options {
  readonly namespace?: string;
  readonly allNamespaces: boolean;
  readonly context?: string;
  readonly kubeconfig?: string;
}

interface HistoryOptions extends Options {
  readonly since: number;
}

function loadConfig({ kubeconfig, context }: Options): KubeConfig {
  const config = new KubeConfig();
  if (kubeconfig === undefined) config.loadFromDefault();
  else config.loadFromFile(kubeconfig);
  if (context !== undefined) config.setCurrentContext(context);
  if (!namesCluster(config)) {
    throw new UsageError(
      context === undefined
        ? 'no cluster: name a kubeconfig by --kubeconfig or $KUBECONFIG, or put it at ~/.kube/config'
        : `the kubeconfig has no context ${context}`,
    );
  }
  return config;
}

async function read(target: string | undefined, options: Options): Promise<ClusterView> {
  const config = loadConfig(options);
  const ownNamespace = config.getContextObject(config.getCurrentContext())?.namespace ?? 'default';
  const namespace = options.allNamespaces ? undefined : (options.namespace ?? ownNamespace);
  return readCluster(new ApiClient(config), { namespace, target });
}

function span(text: string): number {
  const milliseconds = parseSpan(text);
  if (milliseconds === undefined) throw new InvalidArgumentError('a time such as 90s, 30m, 12h or 2d');
  return milliseconds;
}

const program = new Command('kubectl weir').description(
  'What NvmeofTargets are doing: their links and ports, their hosts, their history.',
);

const command = (name: string, description: string): Command =>
  program
    .command(name)
    .description(description)
    .argument('[target]', 'an NvmeofTarget; all of them without it')
    .option('-n, --namespace <name>', 'its namespace; that of the context without it')
    .option('-A, --all-namespaces', 'all namespaces', false)
    .option('--context <name>', 'context of the kubeconfig')
    .option('--kubeconfig <file>', 'kubeconfig to use');

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

command('status', 'targets, and the listeners of their nodes: link, phase, last outage').action(
  async (target: string | undefined, options: Options) =>
    print(showStatus(await read(target, options), new Date())),
);
command('hosts', 'who is connected, over which path, since when').action(
  async (target: string | undefined, options: Options) =>
    print(showHosts(await read(target, options), new Date())),
);
command('history', 'outages and Events, newest first')
  .option('--since <time>', 'how far back, such as 30m, 12h, 2d', span, 24 * 60 * 60 * 1000)
  .action(async (target: string | undefined, options: HistoryOptions) =>
    print(showHistory(await read(target, options), options.since, new Date())),
  );

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof Error)) throw error;
  // What a user can cause is said in one line; anything else is a defect, and says where.
  const isPlain =
    [ApiError, UnknownTargetError, UsageError].some((kind) => error instanceof kind) || 'code' in error;
  process.stderr.write(`kubectl weir: ${isPlain ? error.message : (error.stack ?? error.message)}\n`);
  process.exitCode = 1;
}
process.exit();
