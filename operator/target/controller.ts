/** Ties watches to the work queue: every change of any object becomes the key of the target it concerns. */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { TARGET_LABEL } from '../../crds/api-group.ts';
import { InvalidInputError } from '../../crds/validation.ts';
import type { Api } from '../kubernetes/api-client.ts';
import { type KubernetesObject, objectKey } from '../kubernetes/object.ts';
import { Reflector, type WatchObserver } from '../kubernetes/reflector.ts';
import { RESOURCES } from '../kubernetes/resource.ts';
import type { DataplaneSettings } from '../settings.ts';
import type { WorkQueue } from '../work-queue/work-queue.ts';
import { runWorkers, type WorkObserver } from '../work-queue/workers.ts';
import {
  type ClusterNode,
  type DataplanePod,
  parseClaimTemplate,
  parseDaemonSet,
  parseNode,
  parsePod,
} from './cluster-objects.ts';
import { findCondition } from './conditions.ts';
import { claimNames } from './judge-claims.ts';
import { parseTarget, parseTargetNode, type StoredTarget } from './nvmeof-target.ts';
import { type TargetObserver, TargetReconciler } from './reconciler.ts';
import { parseClaim, parseVolume, type StoredClaim, type StoredVolume } from './storage-objects.ts';

/** Targets worked on at a time. */
const WORKERS = 8;

/**
 * Every target is looked at again this often: repairs what the operator makes and does not watch, accounts and roles,
 * where somebody changed them.
 */
const RESYNC_MS = 10 * 60 * 1000;

/** Resources that the operator watches in any case. */
export const WATCHED_RESOURCES = [
  RESOURCES.targets,
  RESOURCES.targetNodes,
  RESOURCES.daemonSets,
  RESOURCES.pods,
  RESOURCES.nodes,
  RESOURCES.persistentVolumeClaims,
  RESOURCES.persistentVolumes,
].map(({ plural }) => plural);

/** Resources that the operator watches with these settings; their metrics exist from the start. */
export function watchedResources({ deviceAccess }: Pick<DataplaneSettings, 'deviceAccess'>): string[] {
  // Older clusters do not have the kind; elsewhere it is watched for what an earlier `deviceAccess` left.
  const { plural } = RESOURCES.resourceClaimTemplates;
  return deviceAccess === 'ResourceClaim' ? [...WATCHED_RESOURCES, plural] : WATCHED_RESOURCES;
}

/** What the controller needs. */
export interface ControllerOptions {
  readonly api: Api;
  readonly queue: WorkQueue;
  readonly settings: DataplaneSettings;
  readonly logger: Logger;
  readonly watchObserver: WatchObserver;
  readonly workObserver: WorkObserver;
  readonly targetObserver: TargetObserver;
}

/** `<namespace>/<name>` of the target that a child belongs to. */
function targetKeyOf(child: KubernetesObject): string | undefined {
  const name = child.metadata.labels?.[TARGET_LABEL];
  return name === undefined ? undefined : `${child.metadata.namespace}/${name}`;
}

/**
 * Reports of nodes are taken up together: many nodes behind one switch that fails report many times a second, and each
 * would rewrite the target's status.
 */
const REPORT_DELAY_MS = 500;

/** Whether a node only reported something: what it should do is as before. */
function isReport(current: KubernetesObject | undefined, previous: KubernetesObject | undefined): boolean {
  return (
    current !== undefined &&
    previous !== undefined &&
    current.metadata.generation === previous.metadata.generation &&
    current.metadata.deletionTimestamp === previous.metadata.deletionTimestamp
  );
}

/** What of a node decides who runs on it, and how. Heartbeats change none of it. */
function selectionInputs(node: ClusterNode | undefined): unknown {
  if (node === undefined) return undefined;
  const { taints, unschedulable } = node.spec;
  return [node.metadata.uid, node.metadata.labels, taints, unschedulable];
}

/** What of a claim decides whether and how pods can have it. */
function claimInputs(claim: StoredClaim | undefined): unknown {
  if (claim === undefined) return undefined;
  return [claim.metadata.uid, claim.metadata.deletionTimestamp, claim.spec, claim.status];
}

function isRefused(target: StoredTarget): boolean {
  return findCondition(target.status?.conditions, 'Accepted')?.status === 'False';
}

/** See the module's comment. */
export class TargetController {
  readonly #options: ControllerOptions;
  readonly #reconciler: TargetReconciler;
  readonly #reflectors: readonly Pick<Reflector<KubernetesObject>, 'hasSynced' | 'synced' | 'run'>[];
  readonly #targets: Reflector<StoredTarget>;

  constructor(options: ControllerOptions) {
    this.#options = options;
    const { api, logger, watchObserver: observer, queue } = options;
    const shared = { api, logger, observer };
    const enqueueOwner = (current: KubernetesObject | undefined, previous: KubernetesObject | undefined) => {
      const object = current ?? previous;
      const key = object === undefined ? undefined : targetKeyOf(object);
      if (key !== undefined) queue.add(key);
    };
    const child = { ...shared, labelSelector: TARGET_LABEL, groupOf: targetKeyOf, onChange: enqueueOwner };
    const targets = new Reflector({
      ...shared,
      resource: RESOURCES.targets,
      parse: parseTarget,
      onChange: (current, previous) => this.#targetChanged(current, previous),
      resyncMilliseconds: RESYNC_MS,
    });
    const nodes = new Reflector({
      ...shared,
      resource: RESOURCES.nodes,
      parse: parseNode,
      onChange: (current, previous) => this.#nodeChanged(current, previous),
    });
    const targetNodes = new Reflector({
      ...child,
      resource: RESOURCES.targetNodes,
      parse: parseTargetNode,
      onChange: (current, previous) => {
        const key = current === undefined ? undefined : targetKeyOf(current);
        if (key !== undefined && isReport(current, previous)) queue.addAfter(key, REPORT_DELAY_MS);
        else enqueueOwner(current, previous);
      },
    });
    const daemonSets = new Reflector({ ...child, resource: RESOURCES.daemonSets, parse: parseDaemonSet });
    const pods = new Reflector<DataplanePod>({
      ...child,
      resource: RESOURCES.pods,
      parse: parsePod,
      onChange: (current, previous) => this.#podChanged(current, previous),
    });
    const claims = new Reflector({
      ...shared,
      resource: RESOURCES.persistentVolumeClaims,
      parse: parseClaim,
      onChange: (current, previous) => this.#claimChanged(current, previous),
    });
    const volumes = new Reflector({
      ...shared,
      resource: RESOURCES.persistentVolumes,
      parse: parseVolume,
      onChange: (current, previous) => this.#volumeChanged(current, previous),
    });
    this.#targets = targets;
    // Watched with any `deviceAccess`: a former one may have left some, which go when no pod uses them any more.
    const claimTemplates = new Reflector({
      ...child,
      resource: RESOURCES.resourceClaimTemplates,
      parse: parseClaimTemplate,
      optional: options.settings.deviceAccess !== 'ResourceClaim',
    });
    this.#reflectors = [targets, nodes, targetNodes, daemonSets, pods, claims, volumes, claimTemplates];
    const caches = { targets, nodes, targetNodes, daemonSets, pods, claims, volumes, claimTemplates };
    this.#reconciler = new TargetReconciler(api, caches, options.settings, logger, options.targetObserver);
  }

  /** Whether every cache holds its first complete list. */
  get hasSynced(): boolean {
    return this.#reflectors.every((reflector) => reflector.hasSynced);
  }

  /** Fills the caches and keeps them up to date until the signal aborts. Never rejects. */
  async watch(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#reflectors.map((reflector) => reflector.run(signal)));
  }

  /** Works on targets until the signal aborts; the work at hand is finished first. Never rejects. */
  async work(signal: AbortSignal): Promise<void> {
    const { queue, logger, workObserver } = this.#options;
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([Promise.all(this.#reflectors.map((reflector) => reflector.synced)), aborted]);
    if (signal.aborted) return;
    void aborted.then(() => queue.shutDown());
    await runWorkers(queue, (key) => this.#reconciler.reconcile(key), {
      count: WORKERS,
      logger,
      observer: workObserver,
    });
  }

  #targetChanged(current: StoredTarget | undefined, previous: StoredTarget | undefined): void {
    const target = current ?? previous;
    if (target === undefined) return;
    this.#reconciler.fleet.targetChanged(current, previous);
    this.#options.queue.add(objectKey(target));
    const isNewSpec = current?.metadata.generation !== previous?.metadata.generation;
    // What stood in the way of another target may have gone.
    if (isNewSpec && previous !== undefined) this.#enqueueWhere(isRefused);
  }

  #nodeChanged(current: ClusterNode | undefined, previous: ClusterNode | undefined): void {
    if (isDeepStrictEqual(selectionInputs(current), selectionInputs(previous))) return;
    for (const key of this.#reconciler.fleet.nodeChanged(current, previous)) this.#options.queue.add(key);
  }

  #podChanged(current: DataplanePod | undefined, previous: DataplanePod | undefined): void {
    const pod = current ?? previous;
    const target = pod === undefined ? undefined : targetKeyOf(pod);
    if (target === undefined) return;
    const { fleet } = this.#reconciler;
    for (const key of [target, ...fleet.podChanged(target, current, previous)]) this.#options.queue.add(key);
  }

  #claimChanged(current: StoredClaim | undefined, previous: StoredClaim | undefined): void {
    if (isDeepStrictEqual(claimInputs(current), claimInputs(previous))) return;
    const claim = (current ?? previous)?.metadata;
    if (claim !== undefined) this.#enqueueUsers(claim.namespace ?? '', claim.name);
  }

  #volumeChanged(current: StoredVolume | undefined, previous: StoredVolume | undefined): void {
    if (isDeepStrictEqual(current?.spec, previous?.spec)) return;
    const claim = (current ?? previous)?.spec.claimRef;
    if (claim !== undefined) this.#enqueueUsers(claim.namespace, claim.name);
  }

  /** Enqueues the targets that ask for a claim. */
  #enqueueUsers(namespace: string, claimName: string): void {
    this.#enqueueWhere((target) => {
      if (target.metadata.namespace !== namespace) return false;
      try {
        return claimNames(this.#reconciler.fleet.specOf(target)).has(claimName);
      } catch (error) {
        if (error instanceof InvalidInputError) return false; // What cannot be read asks for nothing.
        throw error;
      }
    });
  }

  #enqueueWhere(matches: (target: StoredTarget) => boolean): void {
    for (const target of this.#targets.values())
      if (matches(target)) this.#options.queue.add(objectKey(target));
  }
}
