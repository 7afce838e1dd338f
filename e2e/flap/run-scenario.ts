/** One scenario on one target: a host, verified I/O, and a fault again and again. */
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type FioRun, startFio } from '../fio.ts';
import { type EndToEnd, NODE } from '../fixture.ts';
import { mustExec } from '../guest-shell.ts';
import { connectInFlightAt, countIoErrors, countReconnects, HostLog, toldAfter } from '../host-log.ts';
import { finishedPerBin, IoRateSampler } from '../io-rate.ts';
import { outage, waitForFlow } from '../link-flap.ts';
import { waitUntil } from '../wait-until.ts';
import { servingAfter } from './dataplane-log.ts';
import type { FlapTarget } from './flap-target.ts';
import { guestClockOffset } from './guest-clock.ts';
import { memorySlope } from './memory-slope.ts';
import { healDevice } from './rdma-device.ts';
import type { FlapRecord, ResourceCounts, ScenarioRecord } from './report.ts';
import { difference, isAtBaseline, listResources } from './resources.ts';
import type { Scenario, ScenarioContext } from './scenario.ts';

/** Where scenarios run, and who is told of what goes on. */
export interface FlapLab {
  readonly e2e: EndToEnd;
  note(line: string): void;
}

/** I/Os that must finish before the next fault may begin. */
const FLOW_BETWEEN_FLAPS = 30;
/** Longest run; the run is ended when the last flap is over. A thousand short flaps take the better part of an hour. */
const RUN_LIMIT_SECONDS = 4 * 3600;
const RATE_BIN_MS = 500;
/** What a host's former connections held is released when its new ones stand; an emulated node takes seconds. */
const SETTLE_TIMEOUT_SECONDS = 30;
/** A port that does not serve by then is reported as not serving. */
const SERVING_TIMEOUT_SECONDS = 20;

const NO_LEAKS: ResourceCounts = {
  fds: null,
  qps: 0,
  mrs: 0,
  cqs: 0,
  pds: 0,
  cmIds: 0,
  rssKiB: null,
  anonymousKiB: null,
};

/** Runs `count` flaps of a scenario on a target. Never throws: what broke it off is in the record. */
export async function runScenario(
  where: FlapLab,
  target: FlapTarget,
  scenario: Scenario,
  count: number,
): Promise<ScenarioRecord> {
  const record: ScenarioRecord = {
    target: target.name,
    scenario: scenario.name,
    flaps: [],
    verifyErrors: 0,
    fioIoErrors: 0,
    reconnects: 0,
    targetRestarts: 0,
    leaks: NO_LEAKS,
    memorySlope: null,
    limits: scenario.limits(count),
    managementQueuePairDied: false,
    machineLoad: 0,
    kernel: '',
    startedAt: new Date().toISOString(),
    rate: { binMs: RATE_BIN_MS, finished: [], outages: [] },
  };
  const run = new ScenarioRun(where, target, scenario, record);
  try {
    await run.prepare();
    for (let flap = 1; flap <= count; flap += 1) {
      const result = await run.flap(flap);
      where.note(`${scenario.name}, ${target.name}, flap ${flap} of ${count}: ${describeFlap(result)}`);
      if (result.stallAfterUpMs === null) throw new Error(`flap ${flap}: I/O never moved again`);
    }
    await run.conclude();
  } catch (error) {
    record.failure = error instanceof Error ? error.message : String(error);
    where.note(`${scenario.name}, ${target.name}: ${record.failure}`);
  }
  await run.cleanUp();
  return record;
}

/** One line about a flap. */
export function describeFlap(flap: FlapRecord): string {
  const seconds = (value: number): string => (value / 1000).toFixed(1);
  const parts = [
    `down ${seconds(flap.downMs)} s`,
    flap.stallAfterUpMs === null ? 'NO I/O AGAIN' : `I/O again after ${seconds(flap.stallAfterUpMs)} s`,
  ];
  if (flap.portServingAfterUpMs !== null)
    parts.push(`port serves after ${seconds(flap.portServingAfterUpMs)} s`);
  if (flap.hostToldAfterUpMs !== null) parts.push(`host told after ${seconds(flap.hostToldAfterUpMs)} s`);
  if (flap.hostConnectInFlight) parts.push('the host was connecting by itself');
  if (flap.reconnects > 0) parts.push(`${flap.reconnects} reconnects`);
  if (flap.hostIoErrors > 0) parts.push(`${flap.hostIoErrors} I/O ERRORS`);
  return [...parts, ...flap.remarks, ...flap.missed.map((words) => `MISSED: ${words}`)].join('; ');
}

class ScenarioRun {
  readonly #where: FlapLab;
  readonly #target: FlapTarget;
  readonly #scenario: Scenario;
  readonly #record: ScenarioRecord;
  #device = '';
  #pid: number | undefined;
  #clockOffsetMs = 0;
  #beganAtMs = 0;
  #baseline: ResourceCounts = NO_LEAKS;
  #sampler: IoRateSampler | undefined;
  #log: HostLog | undefined;
  #fio: FioRun | undefined;
  #remarks: string[] = [];
  #missed: string[] = [];

  constructor(where: FlapLab, target: FlapTarget, scenario: Scenario, record: ScenarioRecord) {
    this.#where = where;
    this.#target = target;
    this.#scenario = scenario;
    this.#record = record;
  }

  /** Has the target serve, connects the host, starts I/O, and notes what the target holds. */
  async prepare(): Promise<void> {
    const { shell, host } = this.#where.e2e;
    const target = this.#target;
    this.#record.kernel = (await mustExec(shell, NODE, ['uname', '-r'])).trim();
    await target.serve();
    await host.prepare();
    await host.connect(target.address, target.nqn);
    const namespaces = await host.waitForNamespaces(target.nqn, target.nsids);
    const namespace = namespaces.find(({ nsid }) => nsid === target.nsid);
    if (namespace === undefined) throw new Error(`the host does not see namespace ${target.nsid}`);
    this.#device = namespace.device;
    this.#clockOffsetMs = await guestClockOffset(shell, NODE);
    this.#beganAtMs = Date.now();
    this.#log = new HostLog(shell, host.guest, RUN_LIMIT_SECONDS);
    this.#sampler = new IoRateSampler(shell, host.guest, this.#device, RUN_LIMIT_SECONDS);
    this.#fio = startFio(shell, host.guest, {
      device: this.#device,
      runtimeSeconds: RUN_LIMIT_SECONDS,
      blockSizeBytes: 4096,
      ioDepth: 4,
      sizeBytes: 16 << 20,
      mode: 'verify',
    });
    await waitForFlow([this.#sampler], FLOW_BETWEEN_FLAPS);
    this.#baseline = await this.#count();
  }

  /** One fault, until I/O flows again and the pause after it is over. */
  async flap(number: number): Promise<FlapRecord> {
    const { sampler, log } = this.#started();
    this.#remarks = [];
    this.#missed = [];
    const linesBefore = log.lines.length;
    const context = this.#context();
    const { downAtMs, upAtMs, stallAfterUpMs } = await outage(
      this.#scenario.fault(context, number),
      [sampler],
      this.#scenario.recoverySeconds,
    );
    this.#record.rate.outages.push([downAtMs - this.#beganAtMs, upAtMs - this.#beganAtMs]);
    if (stallAfterUpMs !== undefined) {
      await waitForFlow([sampler], FLOW_BETWEEN_FLAPS);
      await sleep(Math.max(0, upAtMs + this.#scenario.upSeconds * 1000 - Date.now()));
    }
    const lines = log.lines.slice(linesBefore);
    const record: FlapRecord = {
      downMs: upAtMs - downAtMs,
      stallAfterUpMs: stallAfterUpMs ?? null,
      hostIoErrors: countIoErrors(lines, this.#device),
      hostConnectInFlight: connectInFlightAt(lines, upAtMs),
      hostToldAfterUpMs: toldAfter(lines, upAtMs) ?? null,
      portServingAfterUpMs: await this.#portServing(upAtMs),
      rssKiB: null,
      anonymousKiB: null,
      reconnects: countReconnects(lines),
      remarks: this.#remarks,
      missed: this.#missed,
    };
    await this.#scenario.check?.(context, record, downAtMs);
    if (this.#scenario.countsAfterEach === true) Object.assign(record, await this.#countAfterFlap());
    this.#record.flaps.push(record);
    this.#record.reconnects += record.reconnects;
    return record;
  }

  /** Ends I/O in good order and compares what the target holds with what it held before. */
  async conclude(): Promise<void> {
    const { fio } = this.#started();
    this.#record.machineLoad = loadavg()[0] ?? 0;
    await this.#scenario.beforeCounting?.(this.#context());
    this.#record.leaks = await this.#settledLeaks();
    const result = await fio.stop();
    this.#record.verifyErrors = result.verifyErrors;
    this.#record.fioIoErrors = result.ioErrors;
    const anonymous = this.#record.flaps.flatMap(({ anonymousKiB }) => anonymousKiB ?? []);
    this.#record.memorySlope = memorySlope(anonymous) ?? null;
  }

  /** Leaves the lab as it was found, however the run ended; what cannot be made good is noted. */
  async cleanUp(): Promise<void> {
    const { note } = this.#where;
    const { shell } = this.#where.e2e;
    const attempt = async (what: string, work: () => Promise<unknown>): Promise<void> => {
      await work().catch((error: unknown) =>
        note(`${what}: ${error instanceof Error ? error.message : error}`),
      );
    };
    await attempt('restore', () => this.#scenario.restore(this.#context()));
    await attempt('stop fio', async () => this.#fio?.kill());
    await attempt('count restarts', async () => {
      this.#record.targetRestarts = await this.#target.restarts();
    });
    await attempt('disconnect', () => this.#disconnect());
    await attempt('stop the sampler', async () => this.#sampler?.stop());
    await attempt('stop the log', async () => this.#log?.stop());
    await attempt('end the target', () => this.#target.end());
    await attempt('look at the device', async () => {
      this.#record.managementQueuePairDied = await healDevice(shell);
      if (this.#record.managementQueuePairDied)
        note(`${NODE}: the management queue pair was dead, the device was made anew`);
    });
    this.#record.rate.finished = finishedPerBin(this.#sampler?.samples ?? [], this.#beganAtMs, RATE_BIN_MS);
  }

  async #disconnect(): Promise<void> {
    const { host } = this.#where.e2e;
    await host.disconnect(this.#target.nqn);
    await waitUntil(
      'the host to have left',
      async () => (await host.controllers(this.#target.nqn)).length === 0 || undefined,
      { timeoutSeconds: 60 },
    );
  }

  async #count(): Promise<ResourceCounts> {
    const { shell } = this.#where.e2e;
    // Looked for anew only when it is gone: this is asked after every flap of very many.
    let listing = await listResources(shell, NODE, this.#pid);
    if (listing.fds === undefined) {
      this.#pid = await this.#target.pid();
      if (this.#pid !== undefined) listing = await listResources(shell, NODE, this.#pid);
    }
    return this.#target.count(listing);
  }

  async #settledLeaks(): Promise<ResourceCounts> {
    let leaks = NO_LEAKS;
    await waitUntil(
      'resources to be back at the baseline',
      async () => {
        leaks = difference(await this.#count(), this.#baseline);
        return isAtBaseline(leaks) || undefined;
      },
      { timeoutSeconds: SETTLE_TIMEOUT_SECONDS },
    ).catch(() => undefined);
    return leaks;
  }

  /** What is left over of a flap; memory then. */
  async #countAfterFlap(): Promise<Pick<FlapRecord, 'rssKiB' | 'anonymousKiB'>> {
    const leaks = await this.#settledLeaks();
    if (!isAtBaseline(leaks)) this.#missed.push(`left over: ${JSON.stringify(leaks)}`);
    const total = (kind: 'rssKiB' | 'anonymousKiB'): number | null => {
      const more = leaks[kind];
      return more === null ? null : (this.#baseline[kind] ?? 0) + more;
    };
    return { rssKiB: total('rssKiB'), anonymousKiB: total('anonymousKiB') };
  }

  async #portServing(upAtMs: number): Promise<number | null> {
    if (this.#target.name === 'nvmet' || this.#record.limits.portServingMs === null) return null;
    const look = async () => servingAfter(await this.#target.events(), upAtMs + this.#clockOffsetMs);
    const found = await waitUntil('the port to serve', look, {
      timeoutSeconds: SERVING_TIMEOUT_SECONDS,
    }).catch(() => undefined);
    return found === undefined ? null : Math.round(found);
  }

  #context(): ScenarioContext {
    const { e2e, note } = this.#where;
    const { lab, shell, host } = e2e;
    return {
      e2e,
      lab,
      shell,
      host,
      target: this.#target,
      completed: () => this.#sampler?.completed ?? 0,
      eventsSince: async (sinceMs) => {
        const since = sinceMs + this.#clockOffsetMs;
        return (await this.#target.events()).filter(({ timeMs }) => timeMs >= since);
      },
      note,
      remark: (words) => this.#remarks.push(words),
      miss: (words) => this.#missed.push(words),
    };
  }

  #started(): { sampler: IoRateSampler; log: HostLog; fio: FioRun } {
    if (this.#sampler === undefined || this.#log === undefined || this.#fio === undefined) {
      throw new Error('the run was not prepared');
    }
    return { sampler: this.#sampler, log: this.#log, fio: this.#fio };
  }
}
