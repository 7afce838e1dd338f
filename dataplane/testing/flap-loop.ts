/**
 * A dataplane in a process of its own, whose core reports flap after flap and whose cluster is in memory. Prints, one a
 * line, how many bytes of V8's heap are in use after so many flaps. Run by flap-memory.test.ts:
 * `node FLAGS flap-loop.ts FLAPS_PER_LINE LINES`.
 */
import { mock } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { clusterSource } from '../cluster/cluster-source.ts';
import { FakeApi } from '../cluster/fake-api.ts';
import { FakeCore, sampleListener, sampleStats } from '../core/fake-core.ts';
import type { ListenerStats } from '../core/stats.ts';
import { Dataplane } from '../dataplane.ts';
import { fullCollection } from '../garbage.ts';
import { sampleSpecInput } from '../sample-spec.ts';

const HOLD_MS = 500;
const UP_MS = 3000;
/** Time passes in steps: probes ask, and what waits for answers goes on. */
const STEP_MS = 500;
/** Every so many flaps one is long enough for a drain. */
const LONG_EVERY = 5;
const SCRAPE_EVERY = 8;

const options = { namespace: 'storage', name: 'fast-node-a', node: 'node-a', target: 'storage/fast' };
const host = {
  subsystem: 'nqn.2026-11.dev.weir:fast',
  listener: 'storage',
  source: '10.9.0.2',
  discovery: false,
};

class FlappingDataplane {
  readonly #core = new FakeCore();
  readonly #api = new FakeApi();
  readonly #dataplane: Dataplane;
  #flaps = 0;

  constructor() {
    const logger = pino({ level: 'info' }, { write: () => undefined });
    const source = clusterSource(options, '0.0.0', this.#api);
    this.#dataplane = new Dataplane(this.#core, logger, source.identity, '0.0.0');
    source.start(this.#dataplane, this.#core, logger);
    const metadata = { name: options.name, namespace: options.namespace, uid: 'u-1', generation: 1 };
    this.#api.put({ metadata, spec: sampleSpecInput } as never);
  }

  async flap(): Promise<void> {
    this.#flaps += 1;
    this.#link(false);
    this.#port('Serving', 'Holding');
    await this.pass(HOLD_MS);
    if (this.#flaps % LONG_EVERY === 0) await this.#drainAndReturn();
    else {
      this.#link(true);
      this.#port('Holding', 'Serving');
    }
    await this.pass(UP_MS);
    if (this.#flaps % SCRAPE_EVERY === 0) await this.#dataplane.metrics();
    // The test's own memory of what was written.
    this.#api.writes.length = 0;
    this.#api.listQueries.length = 0;
  }

  async pass(milliseconds: number): Promise<void> {
    for (let passed = 0; passed < milliseconds; passed += STEP_MS) {
      mock.timers.tick(STEP_MS);
      this.#dataplane.liveness();
      this.#dataplane.readiness();
      for (let turns = 0; turns < 5; turns += 1) await turn();
    }
  }

  async #drainAndReturn(): Promise<void> {
    this.#port('Holding', 'Draining');
    const controllerId = this.#flaps;
    this.#core.emit({
      type: 'hostDisconnected',
      ...host,
      hostNqn: `nqn:host`,
      controllerId,
      reason: 'Drained',
    });
    this.#core.emit({
      type: 'drainFinished',
      listener: host.listener,
      epoch: this.#flaps,
      result: 'completed',
      durationMs: 12,
      queuePairs: 3,
    });
    this.#port('Draining', 'Down');
    await this.pass(HOLD_MS);
    this.#link(true);
    this.#port('Down', 'Arming');
    this.#port('Arming', 'Serving');
    this.#core.emit({ type: 'hostConnected', ...host, hostNqn: `nqn:host`, controllerId });
  }

  #link(up: boolean): void {
    this.#core.emit({ type: 'linkState', listener: host.listener, netdev: 'rdma0', up });
  }

  #port(from: ListenerStats['phase'], to: ListenerStats['phase']): void {
    const epoch = this.#flaps;
    const listener = sampleListener({ phase: to, epoch, sinceMs: Date.now(), linkUp: to === 'Serving' });
    this.#core.snapshot = sampleStats({ generation: 1, listeners: [listener] });
    const where = { listener: listener.name, address: listener.address, device: listener.device };
    const message = `the link of rdma0 changed in epoch ${epoch}`;
    this.#core.emit({
      type: 'portPhase',
      ...where,
      netdev: 'rdma0',
      from,
      to,
      epoch,
      reason: 'LinkDown',
      message,
    });
  }
}

const [flapsPerLine, lines] = process.argv.slice(2).map(Number);
if (flapsPerLine === undefined || lines === undefined)
  throw new Error('FLAPS_PER_LINE and LINES are missing');
mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: Date.parse('2026-11-23T10:00:00Z') });
const collect = fullCollection();
const flapping = new FlappingDataplane();
for (let line = 0; line < lines; line += 1) {
  for (let flap = 0; flap < flapsPerLine; flap += 1) await flapping.flap();
  // What finalizers let go is collected by the second.
  collect();
  collect();
  console.log(process.memoryUsage().heapUsed);
}
process.exit(0);
