/** Carries out a rollout's next step, and gives up the paths through nodes whose hosts are to go elsewhere. */
import type { NvmeofTargetSpec } from '../../crds/nvmeof-target.ts';
import type { Api } from '../kubernetes/api-client.ts';
import { isNotFound } from '../kubernetes/api-error.ts';
import type { EventRecorder } from '../kubernetes/event-recorder.ts';
import { objectPath, RESOURCES } from '../kubernetes/resource.ts';
import { forEachLimited } from './children.ts';
import type { DataplaneDaemonSet, DataplanePod } from './cluster-objects.ts';
import type { HandledNode } from './handled-node.ts';
import { HandlingWriter } from './handling-writer.ts';
import { cordonedNodesToLeave, podAskedToLeave } from './node-paths.ts';
import type { StoredTarget } from './nvmeof-target.ts';
import { type Replacement, replacementOf } from './replacement.ts';
import {
  HOSTS_RETURN_MS,
  handlingOf,
  missingHosts,
  namedHosts,
  nextRolloutStep,
  type RolloutStep,
  replacementFate,
} from './rollout.ts';

/** A target as a rollout sees it. */
export interface RolledOut {
  readonly target: StoredTarget;
  readonly spec: NvmeofTargetSpec;
  readonly daemonSet: DataplaneDaemonSet;
  readonly pods: readonly DataplanePod[];
  readonly nodes: readonly HandledNode[];
}

/** See the module's comment. */
export class RolloutDriver {
  readonly #api: Api;
  readonly #events: EventRecorder;
  readonly #writer: HandlingWriter;

  constructor(api: Api, events: EventRecorder) {
    this.#api = api;
    this.#events = events;
    this.#writer = new HandlingWriter(api);
  }

  /** Takes the next step; at most one pod is replaced. */
  async drive(rolledOut: RolledOut): Promise<RolloutStep> {
    const { target, spec, daemonSet, pods, nodes } = rolledOut;
    const nowMs = Date.now();
    const isShared = spec.scope === 'Shared';
    const leaveTimeoutMs = spec.link.drainTimeoutSeconds * 1000;
    const step = nextRolloutStep({ daemonSet, pods, nodes, isShared, leaveTimeoutMs, nowMs });
    const cordoned = isShared ? cordonedNodesToLeave(nodes) : new Set<HandledNode>();
    await forEachLimited(nodes, async (node) => {
      const before = replacementOf(node.object);
      const fate = before && replacementFate(daemonSet, node, before, nowMs);
      const replacement = fate === 'underway' ? before : undefined;
      const handling = handlingOf(node, { step, replacement, nowMs });
      if (cordoned.has(node)) await this.#leaveCordoned(target, node, handling.replacement);
      else if (node.object !== undefined) await this.#writer.write(node.object, handling);
      if (fate === 'hostsMissing' && before !== undefined) await this.#tellMissing(target, node, before);
    });
    // Only now: what is to be known of the pod when it has gone is written down.
    if (step.kind === 'leave') await this.#tell(target, 'Normal', 'LeavingPaths', step.message);
    if (step.kind === 'replace') await this.#replace(target, step.pod, step.message);
    return step;
  }

  async #leaveCordoned(
    target: StoredTarget,
    node: HandledNode,
    replacement: Replacement | undefined,
  ): Promise<void> {
    const leavingPod = node.pod?.metadata.name;
    if (node.object === undefined || leavingPod === undefined) return;
    const isNews = podAskedToLeave(node) !== leavingPod;
    await this.#writer.write(node.object, { replacement, leavingPod });
    if (!isNews) return;
    const note = `node ${node.nodeName} is cordoned, and its hosts have other paths: the paths through it become inaccessible`;
    await this.#tell(target, 'Normal', 'LeavingPaths', note);
  }

  async #tellMissing(target: StoredTarget, node: HandledNode, replacement: Replacement): Promise<void> {
    const missing = namedHosts(missingHosts(node, replacement));
    const note = `${missing} did not come back to ${node.nodeName} within ${HOSTS_RETURN_MS / 1000} s after it was ready again; the rollout goes on`;
    await this.#tell(target, 'Warning', 'HostsNotBack', note);
  }

  async #replace(target: StoredTarget, pod: DataplanePod, message: string): Promise<void> {
    const { name, namespace = '', uid } = pod.metadata;
    await this.#tell(target, 'Normal', 'ReplacingPod', message);
    try {
      await this.#api.delete(objectPath(RESOURCES.pods, { namespace, name }), { preconditions: { uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  #tell(target: StoredTarget, type: 'Normal' | 'Warning', reason: string, note: string): Promise<void> {
    return this.#events.record(RESOURCES.targets, target, { type, reason, action: 'Replace', note });
  }
}
