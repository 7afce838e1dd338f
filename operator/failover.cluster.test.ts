/** Two operators as processes against a real API server; its audit log tells who wrote when. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RESOURCES } from './kubernetes/resource.ts';
import { NetworkLink } from './testing/network-link.ts';
import { OperatorProcess, type OperatorProcessOptions } from './testing/operator-process.ts';
import { sampleSpecInput } from './testing/samples.ts';
import { type AuditedWrite, TestCluster } from './testing/test-cluster.ts';

/** A third of the defaults. */
const SHORT = [
  ...['--leader-elect-lease-duration', '5s'],
  ...['--leader-elect-renew-deadline', '4s'],
  ...['--leader-elect-retry-period', '660ms'],
];
const NAMESPACE = 'storage';

let cluster: TestCluster;
let edits: Edits;
let sequence = 0;

/** A user who changes their mind ten times a second, so that there is always something to write. */
class Edits {
  #isOver = false;
  readonly #done: Promise<void>;

  constructor() {
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#done;
  }

  async #run(): Promise<void> {
    for (let count = 0; !this.#isOver; count += 1) {
      const access = { policy: count % 2 === 0 ? 'AnyHost' : 'AllowList' };
      await cluster.applyTarget(NAMESPACE, 'fast', sampleSpecInput({ access }));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

beforeAll(async () => {
  cluster = await TestCluster.start({ auditWrites: true });
  await cluster.createNamespace(NAMESPACE);
  await cluster.createNode('node-a');
  edits = new Edits();
});
afterAll(async () => {
  await edits?.stop();
  await cluster?.stop();
});

interface Replica {
  readonly user: string;
  readonly operator: OperatorProcess;
  readonly link: NetworkLink;
}

type Options = Omit<OperatorProcessOptions, 'kubeconfig'>;

/** Replicas with a lease of their own: the tests run side by side, since most of their time is waiting. */
class Replicas {
  readonly #leaseNamespace: string;
  readonly #all: Replica[] = [];

  constructor(leaseNamespace: string) {
    this.#leaseNamespace = leaseNamespace;
  }

  async start(options: Options = { args: SHORT }): Promise<Replica> {
    sequence += 1;
    const user = `operator-${sequence}`;
    const link = await NetworkLink.to(cluster.port);
    const kubeconfig = await cluster.kubeconfigOf(user, link.port);
    const args = ['--leader-elect', '--namespace', this.#leaseNamespace, ...(options.args ?? [])];
    const replica = { user, operator: new OperatorProcess({ ...options, args, kubeconfig }), link };
    this.#all.push(replica);
    return replica;
  }

  /** A leader that writes, and another replica that is ready to take over. */
  async startPair(first?: Options, second = first): Promise<[Replica, Replica]> {
    const leader = await this.start(first);
    await begins(leader);
    return [leader, await this.startStandby(second)];
  }

  async startStandby(options?: Options): Promise<Replica> {
    const standby = await this.start(options);
    await cluster.waitFor('a replica to be ready', () => standby.operator.fetch('/readyz'));
    return standby;
  }

  async stop(): Promise<void> {
    for (const { operator } of this.#all) operator.kill('SIGKILL');
    await Promise.all(this.#all.map(({ operator }) => operator.ended));
    await Promise.all(this.#all.map(({ link }) => link.stop()));
  }
}

const test = it.extend<{ replicas: Replicas }>({
  replicas: async ({ task }, use) => {
    const leaseNamespace = `lease-${task.id.replaceAll(/[^a-z0-9]/g, '-')}`.replace(/-+$/, '');
    await cluster.createNamespace(leaseNamespace);
    const replicas = new Replicas(leaseNamespace);
    await use(replicas);
    await replicas.stop();
  },
});

/** Writes of a replica to targets and their children. */
const work = ({ user }: Replica): AuditedWrite[] =>
  cluster.writesOf(user).filter(({ resource }) => resource !== RESOURCES.leases.plural);

const begins = (replica: Replica) =>
  cluster.waitFor(`${replica.user} to write`, async () => work(replica)[0]);

/** Waits for the other to write; returns the milliseconds since `sinceMs`. */
async function takesOver(other: Replica, sinceMs: number): Promise<number> {
  return (await begins(other)).receivedMs - sinceMs;
}

function expectOneWriterAtATime(before: Replica, after: Replica): void {
  const last = Math.max(...work(before).map(({ answeredMs }) => answeredMs));
  const first = Math.min(...work(after).map(({ receivedMs }) => receivedMs));
  expect(last).toBeLessThan(first);
}

describe.concurrent('a replica takes over', () => {
  test('at once from a leader that is told to end, and within 20 s from one that is killed', async ({
    replicas,
  }) => {
    // With the times that are the default.
    const [first, second] = await replicas.startPair({});
    const toldMs = Date.now();
    first.operator.kill('SIGTERM');
    expect(await takesOver(second, toldMs)).toBeLessThan(2000);
    expect(await first.operator.ended).toBe(0);
    expectOneWriterAtATime(first, second);

    const third = await replicas.startStandby({});
    const killedMs = Date.now();
    second.operator.kill('SIGKILL');
    expect(await takesOver(third, killedMs)).toBeLessThan(20_000);
    expectOneWriterAtATime(second, third);
  });

  test('not before the leader is gone, whatever their clocks say', async ({ replicas }) => {
    const [leader, other] = await replicas.startPair(
      { args: SHORT, clockSkewMs: -3_600_000 },
      { args: SHORT, clockSkewMs: 3_600_000 },
    );
    await new Promise((resolve) => setTimeout(resolve, 6000)); // Longer than the lease.
    expect(other.operator.hasLed).toBe(false);
    leader.operator.kill('SIGKILL');
    await takesOver(other, Date.now());
    expectOneWriterAtATime(leader, other);
  });
});

describe.concurrent('a leader', () => {
  const cuts: [string, Parameters<NetworkLink['cut']>][] = [
    ['in both directions', []],
    ['in its requests only: it sees edits and renews in vain', ['toServer']],
  ];
  for (const [what, directions] of cuts) {
    test(`that is cut off ${what}, has stopped before another begins, and nothing of it arrives later`, async ({
      replicas,
    }) => {
      const [leader, other] = await replicas.startPair();
      leader.link.cut(...directions);
      expect(await leader.operator.ended).toBe(3);
      expect(leader.link.delayed('toServer')).toBeGreaterThan(0);
      await begins(other);
      leader.link.heal();
      await new Promise((resolve) => setTimeout(resolve, 500));
      expectOneWriterAtATime(leader, other);
    });
  }

  test('that was frozen for longer than its lease writes nothing when it wakes up', async ({ replicas }) => {
    const [leader, other] = await replicas.startPair();
    leader.operator.kill('SIGSTOP');
    await begins(other);
    leader.operator.kill('SIGCONT');
    expect(await leader.operator.ended).toBe(3);
    expectOneWriterAtATime(leader, other);
  });
});
