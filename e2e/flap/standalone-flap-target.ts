/** A standalone dataplane under the runner, for what a pod cannot be given: a memory-lock limit, a disk that hangs. */
import { planGuest } from '../../lab/guests/plan.ts';
import { type EndToEnd, HOST, IMAGE, NODE } from '../fixture.ts';
import { StandaloneTarget } from '../standalone-target.ts';
import { waitUntil } from '../wait-until.ts';
import { parseEvents } from './dataplane-log.ts';
import { newestProcess } from './dataplane-process.ts';
import type { FlapTarget } from './flap-target.ts';
import { countOfProcess } from './resources.ts';

const NAME = 'flap';
const NQN = 'nqn.2026-11.dev.weir:flap';
const PORT = 4431;
const METRICS_PORT = 9901;
const SIZE_BYTES = 64 << 20;
const PROCESS = '^node /opt/weir/bin/weir-dataplane --config';

/** How the standalone dataplane differs from the default. */
export interface StandaloneFlapOptions {
  /** File of the namespace, under `/var/lib/weir`. */
  readonly file: string;
  /** Fields of the configuration beside nodeName, target, listeners and subsystems. */
  readonly configuration?: Readonly<Record<string, unknown>>;
  readonly withoutCapabilities?: readonly string[];
  /** Before it starts, and after it has ended. */
  prepare?(): Promise<void>;
  tidy?(): Promise<void>;
}

/** A standalone dataplane with one namespace on a file. */
export function standaloneFlapTarget({ shell }: EndToEnd, options: StandaloneFlapOptions): FlapTarget {
  const standalone = new StandaloneTarget(shell, NODE, NAME, METRICS_PORT, {
    asRoot: true,
    withoutCapabilities: options.withoutCapabilities ?? [],
  });
  const { rdmaAddress } = planGuest(NODE);
  const pid = (): Promise<number | undefined> => newestProcess(shell, PROCESS);
  let pidAtStart: number | undefined;
  return {
    name: 'weir',
    nqn: NQN,
    address: { address: rdmaAddress, port: PORT },
    nsids: [1],
    nsid: 1,
    serve: async () => {
      await options.prepare?.();
      await standalone.configure({
        nodeName: NODE,
        target: `local/${NAME}`,
        ...options.configuration,
        listeners: [{ name: 'storage', addressFrom: { address: rdmaAddress }, port: PORT }],
        subsystems: [
          {
            nqn: NQN,
            access: { policy: 'AllowList', hosts: [{ nqn: planGuest(HOST).hostNqn }] },
            namespaces: [{ nsid: 1, backend: { file: { path: options.file, sizeBytes: SIZE_BYTES } } }],
          },
        ],
      });
      standalone.start(IMAGE);
      await waitUntil(
        'the standalone dataplane to serve',
        async () => (await standalone.scrape()).sum('weir_target_listener_up', {}) === 1 || undefined,
        { timeoutSeconds: 120, describe: () => standalone.log.slice(-3).join('\n') },
      );
      pidAtStart = await pid();
    },
    end: async () => {
      await standalone.stop();
      await options.tidy?.();
    },
    // Nobody starts it again: another process, or none, is one restart too many.
    restarts: async () => ((await pid()) === pidAtStart ? 0 : 1),
    pid,
    count: countOfProcess,
    events: async () => parseEvents(standalone.log),
  };
}
