/**
 * Makes the cluster what one NvmeofTarget asks for. Level-based: every pass starts from what the caches show now,
 * never from what an event said, so passes may be lost, repeated or reordered.
 */
import type { Logger } from 'pino';
import { isOnHostNetwork } from '../../crds/network.ts';
import type { NvmeofTargetSpec, NvmeofTargetStatus } from '../../crds/nvmeof-target.ts';
import { childName } from '../../crds/object-names.ts';
import type { Silence } from '../../crds/silent-status.ts';
import { formatProblems, InvalidInputError } from '../../crds/validation.ts';
import type { TargetIdentity } from '../build/child.ts';
import type { Api } from '../kubernetes/api-client.ts';
import { isConflict, isInvalid, isNotFound, isServerTrouble } from '../kubernetes/api-error.ts';
import { Applier } from '../kubernetes/applier.ts';
import type { Cache } from '../kubernetes/cache.ts';
import { EventRecorder } from '../kubernetes/event-recorder.ts';
import { objectKey } from '../kubernetes/object.ts';
import { objectPath, RESOURCES } from '../kubernetes/resource.ts';
import { NotLeaderError } from '../leader-election/fenced-api.ts';
import type { DataplaneSettings } from '../settings.ts';
import { Children, forEachLimited, type LiveChildren } from './children.ts';
import { type DataplanePod, isPodAlive, isPodReady, type StoredClaimTemplate } from './cluster-objects.ts';
import type { Verdict } from './conditions.ts';
import { addFinalizer, hasFinalizer, removeFinalizer } from './finalizer.ts';
import { Fleet, type FleetCaches } from './fleet.ts';
import type { HandledNode } from './handled-node.ts';
import { judgeTarget } from './judge.ts';
import { type ClaimCaches, judgeClaims, type ResolvedClaims } from './judge-claims.ts';
import { isSelected } from './node-selection.ts';
import type { StoredTarget, StoredTargetNode } from './nvmeof-target.ts';
import { podsOnNode } from './pods-on-node.ts';
import { judgeProgress } from './progress.ts';
import { Refusal } from './refusal.ts';
import { connectedHosts, type NodeReport } from './roll-up.ts';
import type { RolloutStep } from './rollout.ts';
import { RolloutDriver } from './rollout-driver.ts';
import { judgeSilence } from './silence.ts';
import { Silencer } from './silencer.ts';
import { buildStatus } from './status.ts';
import { StatusWriter } from './status-writer.ts';

/** Caches that a reconcile reads. */
export interface Caches extends FleetCaches, ClaimCaches {
  readonly targetNodes: Cache<StoredTargetNode>;
  readonly pods: Cache<DataplanePod>;
  readonly claimTemplates: Cache<StoredClaimTemplate>;
}

/** Told how many nodes serve a target; metrics listen. */
export interface TargetObserver {
  observed(key: string, nodes: { readonly desired: number; readonly ready: number }): void;
  gone(key: string): void;
}

/** A namespace's label changes without an event for us: look again after this time while it keeps pods out. */
const POD_SECURITY_RECHECK_MS = 30_000;

/** Pause after a write that came too late; the change that was faster arrives within it. */
const CONFLICT_RETRY_MS = 200;

const POD_SECURITY_LABEL = 'pod-security.kubernetes.io/enforce';

const ACCEPTED: Verdict = { status: 'True', reason: 'Accepted', message: 'the specification is valid' };

function identityOf(target: StoredTarget): TargetIdentity {
  const { namespace = '', name, uid = '' } = target.metadata;
  return { namespace, name, uid };
}

/** See the module's comment. */
export class TargetReconciler {
  readonly #api: Api;
  readonly #caches: Caches;
  readonly #settings: DataplaneSettings;
  readonly #logger: Logger;
  readonly #children: Children;
  readonly #events: EventRecorder;
  readonly #statusWriter: StatusWriter;
  readonly #silencer: Silencer;
  readonly #rollout: RolloutDriver;
  readonly #observer: TargetObserver;
  readonly #uids = new Map<string, string>();
  /** Conflicts between targets are judged here. */
  readonly fleet: Fleet;

  constructor(
    api: Api,
    caches: Caches,
    settings: DataplaneSettings,
    logger: Logger,
    observer: TargetObserver,
  ) {
    this.#api = api;
    this.#observer = observer;
    this.#caches = caches;
    this.#settings = settings;
    this.#logger = logger;
    this.#children = new Children(api, new Applier(api), settings);
    this.#events = new EventRecorder(api, logger);
    this.#statusWriter = new StatusWriter(api, this.#events);
    this.#silencer = new Silencer(api, (object) => this.#judgeAfresh(object));
    this.#rollout = new RolloutDriver(api, this.#events);
    this.fleet = new Fleet(caches);
  }

  /** One pass for the target `<namespace>/<name>`. Returns after how many milliseconds to look again, if at all. */
  async reconcile(key: string): Promise<number | undefined> {
    const target = this.#caches.targets.get(key);
    if (target === undefined) {
      this.#forget(key);
      return undefined;
    }
    this.#uids.set(key, target.metadata.uid ?? '');
    try {
      if (target.metadata.deletionTimestamp !== undefined) {
        await this.#finalize(target);
        return undefined;
      }
      if (!hasFinalizer(target)) {
        // The change comes back as an event, which brings the next pass.
        await addFinalizer(this.#api, target);
        return undefined;
      }
      return await this.#serve(target);
    } catch (error) {
      if (!isConflict(error)) {
        await this.#reportFailure(target, error);
        throw error;
      }
      // Somebody wrote in between, which is no failure: the cache will show what, in a moment.
      this.#logger.debug({ target: key, err: error }, 'the object changed meanwhile');
      return CONFLICT_RETRY_MS;
    }
  }

  /** What nobody but this target's users may notice is told to them; an API server in trouble is noticed by all. */
  async #reportFailure(target: StoredTarget, error: unknown): Promise<void> {
    if (isServerTrouble(error) || error instanceof NotLeaderError) return;
    await this.#events.record(RESOURCES.targets, target, {
      type: 'Warning',
      reason: 'ReconcileFailed',
      action: 'Retry',
      note: `the operator could not bring this target up to date and tries again: ${error instanceof Error ? error.message : String(error)}`,
      subject: 'ReconcileFailed',
    });
  }

  #forget(key: string): void {
    this.fleet.forget(key);
    this.#observer.gone(key);
    const uid = this.#uids.get(key);
    if (uid !== undefined) this.#statusWriter.forget(uid);
    this.#uids.delete(key);
  }

  #live(target: StoredTarget): LiveChildren {
    const { namespace, name } = target.metadata;
    const group = `${namespace}/${name}`;
    const pods = this.#caches.pods.inGroup(group);
    return {
      daemonSet: this.#caches.daemonSets.get(`${namespace}/${childName(name)}`),
      targetNodes: this.#caches.targetNodes.inGroup(group),
      pods,
      claimTemplates: this.#caches.claimTemplates.inGroup(group),
      podNodes: new Set(pods.filter(isPodAlive).flatMap((pod) => pod.spec.nodeName ?? [])),
    };
  }

  /** Selected nodes, and those that may keep the pod they have. */
  #servingNodes(
    selected: ReadonlySet<string>,
    spec: NvmeofTargetSpec,
    live: LiveChildren,
  ): ReadonlySet<string> {
    const staying = [...live.podNodes].filter((name) => {
      const node = this.#caches.nodes.get(name);
      return node !== undefined && isSelected(node, spec, true);
    });
    return new Set([...selected, ...staying].sort());
  }

  #reports(nodes: Iterable<string>, live: LiveChildren): NodeReport[] {
    const objects = new Map(live.targetNodes.map((object) => [object.spec.nodeName, object]));
    const pods = Map.groupBy(live.pods, (pod) => pod.spec.nodeName);
    return [...nodes].map((nodeName) => {
      const object = objects.get(nodeName);
      return {
        nodeName,
        generation: object?.metadata.generation,
        status: object?.status,
        hasPod: live.podNodes.has(nodeName),
        podReady: pods.get(nodeName)?.some(isPodReady) === true,
        silence: judgeSilence(pods.get(nodeName) ?? [], this.#caches.nodes.get(nodeName), object?.status),
      };
    });
  }

  async #serve(target: StoredTarget): Promise<number | undefined> {
    const live = this.#live(target);
    try {
      const spec = this.fleet.specOf(target);
      const nqn = this.fleet.nqnOf(target, spec);
      const nodes = this.#servingNodes(this.fleet.nodesOf(target, spec), spec, live);
      const older = this.fleet.olderThan(target);
      judgeTarget(spec, nqn, nodes, older, this.#settings);
      const { namespace = '' } = target.metadata;
      const claims = judgeClaims({ namespace, spec, nodes, pods: live.pods }, older, this.#caches);
      const metricsPort = this.fleet.assignPort(target, spec, this.#settings.portRange);
      if (metricsPort === undefined) {
        const { first, last } = this.#settings.portRange;
        throw new Refusal(
          'NoFreePort',
          `every port from ${first} to ${last} is taken on a node of this target: widen dataplane.portRange of the chart`,
        );
      }
      if (spec.paused) return await this.#reportPaused(target, nqn, live);
      const desired = {
        identity: identityOf(target),
        spec,
        nqn,
        nodes: [...nodes],
        metricsPort,
        claimCapacities: claims.capacities,
      };
      await this.#children.apply(desired, live);
      return await this.#progress(target, { spec, nqn, accepted: acceptance(spec, claims) }, nodes, live);
    } catch (error) {
      const refusal = refusalFrom(error);
      if (refusal === undefined) throw error;
      await this.#reportRefusal(target, refusal, live);
      return undefined;
    }
  }

  async #progress(
    target: StoredTarget,
    { spec, nqn, accepted }: { spec: NvmeofTargetSpec; nqn: string; accepted: Verdict },
    nodes: ReadonlySet<string>,
    live: LiveChildren,
  ): Promise<number | undefined> {
    const namespace = target.metadata.namespace ?? '';
    const reports = this.#reports(nodes, live);
    const step: RolloutStep =
      live.daemonSet === undefined
        ? { kind: 'complete' }
        : await this.#rollout.drive({
            target,
            spec,
            daemonSet: live.daemonSet,
            pods: live.pods,
            nodes: this.#handledNodes(reports, live),
          });
    const hasMissing = reports.some((report) => !report.hasPod);
    const podSecurity = hasMissing ? await this.#podSecurity(namespace) : undefined;
    const { deviceAccess, deviceResource: resource } = this.#settings;
    const deviceResource = deviceAccess === 'DevicePlugin' ? resource : undefined;
    const progress = judgeProgress({
      reports,
      pods: live.pods,
      step,
      podSecurity,
      namespace,
      isOnHostNetwork: isOnHostNetwork(spec),
      deviceResource,
    });
    await this.#writeStatus(target, nqn, reports, { Accepted: accepted, Progressing: progress });
    const rechecks = [
      ...(podSecurity === undefined ? [] : [POD_SECURITY_RECHECK_MS]),
      ...(step.kind === 'wait' && step.recheckMs !== undefined ? [step.recheckMs] : []),
    ];
    return rechecks.length === 0 ? undefined : Math.min(...rechecks);
  }

  /** The nodes with all that decides how their pods and paths are handled. */
  #handledNodes(reports: readonly NodeReport[], live: LiveChildren): HandledNode[] {
    const objects = new Map(live.targetNodes.map((object) => [object.spec.nodeName, object]));
    const pods = Map.groupBy(live.pods.filter(isPodAlive), (pod) => pod.spec.nodeName);
    return reports.map((report) => {
      const { nodeName } = report;
      const own = pods.get(nodeName) ?? [];
      return {
        nodeName,
        report,
        object: objects.get(nodeName),
        pod: own.find(({ metadata }) => metadata.deletionTimestamp === undefined) ?? own[0],
        isCordoned: this.#caches.nodes.get(nodeName)?.spec.unschedulable === true,
      };
    });
  }

  /** The enforced level of a namespace that refuses what dataplanes need. */
  async #podSecurity(namespace: string): Promise<string | undefined> {
    const object = await this.#api.get(objectPath(RESOURCES.namespaces, { name: namespace }));
    const labels = (object as { metadata?: { labels?: Record<string, string> } }).metadata?.labels ?? {};
    const level = labels[POD_SECURITY_LABEL];
    return level === 'baseline' || level === 'restricted' ? level : undefined;
  }

  async #reportPaused(target: StoredTarget, nqn: string, live: LiveChildren): Promise<undefined> {
    const reports = this.#reports(live.targetNodes.map(({ spec }) => spec.nodeName).sort(), live);
    const message = 'paused: nothing is changed until spec.paused is false';
    await this.#writeStatus(target, nqn, reports, {
      Accepted: ACCEPTED,
      Progressing: { status: 'False', reason: 'Paused', message },
    });
  }

  /** What was served goes on being served, and goes on being reported. */
  async #reportRefusal(target: StoredTarget, refusal: Refusal, live: LiveChildren): Promise<void> {
    const reports = this.#reports(live.targetNodes.map(({ spec }) => spec.nodeName).sort(), live);
    const nqn = this.#statusWriter.current(target)?.nqn;
    const kept = live.targetNodes.length === 0 ? '' : '; the last accepted state goes on being served';
    await this.#writeStatus(target, nqn, reports, {
      Accepted: { status: 'False', reason: refusal.reason, message: refusal.message },
      Progressing: { status: 'False', reason: 'NotAccepted', message: `see condition Accepted${kept}` },
      ...(live.targetNodes.length === 0
        ? { Ready: { status: 'False', reason: refusal.reason, message: refusal.message } as const }
        : {}),
    });
  }

  async #finalize(target: StoredTarget): Promise<void> {
    if (!hasFinalizer(target)) return;
    const live = this.#live(target);
    const identity = identityOf(target);
    const reports = this.#reports(live.targetNodes.map(({ spec }) => spec.nodeName).sort(), live);
    const nqn = this.#statusWriter.current(target)?.nqn;
    const hosts = reports.reduce((sum, report) => sum + connectedHosts(report), 0);
    // Once the pods have been told to go there is no way back, whatever reconnects meanwhile.
    if (live.daemonSet !== undefined && target.spec['deletionPolicy'] !== 'Drain' && hosts > 0) {
      const message = `deletion waits for ${hosts} connected host${hosts === 1 ? '' : 's'} (${connectedNames(reports)}): disconnect (nvme disconnect -n ${nqn ?? 'NQN'}), or set spec.deletionPolicy: Drain`;
      await this.#writeStatus(target, nqn, reports, {
        Progressing: { status: 'False', reason: 'DeletionBlocked', message },
      });
      return;
    }
    if (live.daemonSet !== undefined) await this.#children.deletePods(identity);
    const alive = [...live.podNodes].sort();
    if (live.daemonSet !== undefined || alive.length > 0) {
      const message = alive.length === 0 ? 'waiting for the pods to go' : `draining ${alive.join(', ')}`;
      await this.#writeStatus(target, nqn, reports, {
        Progressing: { status: 'True', reason: 'Draining', message },
      });
      return;
    }
    await this.#children.deleteRest(identity, live.targetNodes);
    await removeFinalizer(this.#api, target);
  }

  /** Says of each node that no dataplane stands for that nothing is known of it. */
  async #silenceNodes(reports: readonly NodeReport[], target: StoredTarget): Promise<void> {
    // Judged by what the caches show now: a dataplane may have reported since the pass began.
    const live = this.#live(target);
    const now = this.#reports(
      reports.map(({ nodeName }) => nodeName),
      live,
    );
    const silences = new Map(now.map(({ nodeName, silence }) => [nodeName, silence]));
    await forEachLimited(live.targetNodes, async (object) => {
      const silence = silences.get(object.spec.nodeName);
      if (silence !== undefined) await this.#silencer.silence(object, silence);
    });
  }

  async #judgeAfresh(object: StoredTargetNode): Promise<Silence | undefined> {
    const { nodeName } = object.spec;
    const pods = await podsOnNode(this.#api, object);
    return judgeSilence(pods, this.#caches.nodes.get(nodeName), object.status);
  }

  async #writeStatus(
    target: StoredTarget,
    nqn: string | undefined,
    reports: readonly NodeReport[],
    verdicts: Parameters<typeof buildStatus>[0]['verdicts'],
  ): Promise<void> {
    const status: NvmeofTargetStatus = buildStatus({
      previous: this.#statusWriter.current(target),
      generation: target.metadata.generation ?? 0,
      nqn,
      reports,
      verdicts,
      now: new Date(),
    });
    await this.#silenceNodes(reports, target);
    const { desiredNodes: desired = 0, readyNodes: ready = 0 } = status;
    this.#observer.observed(objectKey(target), { desired, ready });
    try {
      await this.#statusWriter.write(target, status);
    } catch (error) {
      // The target went between the cache and the write; its deletion brings the last pass.
      if (!isNotFound(error)) throw error;
    }
  }
}

function acceptance(spec: NvmeofTargetSpec, { unbound }: ResolvedClaims): Verdict {
  const volatile = spec.namespaces
    .filter(({ backend }) => backend.memory !== undefined)
    .map(({ nsid }) => nsid);
  const remarks = [
    ...(volatile.length === 0
      ? []
      : [`the data of namespace ${volatile.join(', ')} is volatile (memory backend)`]),
    ...(unbound.length === 0
      ? []
      : [`the pods wait for PersistentVolumeClaim ${unbound.join(', ')}, which has no volume yet`]),
  ];
  return { ...ACCEPTED, message: [ACCEPTED.message, ...remarks].join('; ') };
}

function refusalFrom(error: unknown): Refusal | undefined {
  if (error instanceof Refusal) return error;
  // A field of the pods that no schema of ours could judge.
  if (isInvalid(error))
    return new Refusal('InvalidSpec', `the API server refuses what follows from it: ${error.detail}`);
  return error instanceof InvalidInputError
    ? new Refusal('InvalidSpec', formatProblems(error.problems))
    : undefined;
}

/** Host NQNs named in the message of a held deletion; the rest is counted. */
const HOSTS_NAMED_MAX = 3;

function connectedNames(reports: readonly NodeReport[]): string {
  const names = new Set(reports.flatMap(({ status }) => status?.hosts?.map(({ hostNQN }) => hostNQN) ?? []));
  const shown = [...names].slice(0, HOSTS_NAMED_MAX);
  if (shown.length === 0) return 'not named yet';
  return shown.join(', ') + (names.size > shown.length ? ` and ${names.size - shown.length} more` : '');
}
