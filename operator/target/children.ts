/** The children of a target: applying those that should be, deleting those that should not. */

import type { NvmeofTargetSpec } from '../../crds/nvmeof-target.ts';
import { SPEC_FIELD_REVISIONS } from '../../crds/nvmeof-target-node.ts';
import { childName, targetNodeName } from '../../crds/object-names.ts';
import type { TargetIdentity } from '../build/child.ts';
import { buildDaemonSet } from '../build/daemon-set.ts';
import { buildPodDisruptionBudget } from '../build/pod-disruption-budget.ts';
import { buildResourceClaimTemplate } from '../build/resource-claim-template.ts';
import { buildRole } from '../build/role.ts';
import { buildRoleBinding } from '../build/role-binding.ts';
import { buildServiceAccount } from '../build/service-account.ts';
import { buildTargetNode, type ClaimCapacities, type ControllerIds } from '../build/target-node.ts';
import type { Api } from '../kubernetes/api-client.ts';
import { isNotFound, isServerTrouble } from '../kubernetes/api-error.ts';
import type { Applier } from '../kubernetes/applier.ts';
import { objectPath, RESOURCES, type Resource } from '../kubernetes/resource.ts';
import type { DataplaneSettings } from '../settings.ts';
import type { DataplaneDaemonSet, DataplanePod, StoredClaimTemplate } from './cluster-objects.ts';
import { ALL_CONTROLLER_IDS, assignControllerIds } from './controller-ids.ts';
import type { StoredTargetNode } from './nvmeof-target.ts';
import { unusedClaimTemplates } from './unused-claim-templates.ts';

/** Requests in flight while the objects of many nodes are written. */
const PARALLEL_WRITES = 8;

/** What a target's children should be. */
export interface DesiredChildren {
  readonly identity: TargetIdentity;
  readonly spec: NvmeofTargetSpec;
  readonly nqn: string;
  /** Nodes that should serve the target, in order. */
  readonly nodes: readonly string[];
  readonly metricsPort: number;
  readonly claimCapacities: ClaimCapacities;
}

/** A target's children as the caches show them. */
export interface LiveChildren {
  readonly daemonSet: DataplaneDaemonSet | undefined;
  readonly targetNodes: readonly StoredTargetNode[];
  readonly pods: readonly DataplanePod[];
  /** ResourceClaimTemplates, of this DeviceClass or of a former one. */
  readonly claimTemplates: readonly StoredClaimTemplate[];
  /** Nodes on which a pod of the target is alive. */
  readonly podNodes: ReadonlySet<string>;
}

/**
 * Does the work for every item, several at a time. An item that fails holds up no other, unless it is the API server
 * that is in trouble; the first failure is thrown when all that was begun has ended.
 */
export async function forEachLimited<T>(items: Iterable<T>, work: (item: T) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.iterator]();
  const failures: unknown[] = [];
  const worker = async (): Promise<void> => {
    for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
      if (failures.some(isServerTrouble)) return;
      await work(next.value).catch((error: unknown) => failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: PARALLEL_WRITES }, worker));
  if (failures.length > 0) throw failures[0];
}

function controllerIds(desired: DesiredChildren, live: LiveChildren): ReadonlyMap<string, ControllerIds> {
  const { nodes, spec } = desired;
  if (spec.scope === 'PerNode') return new Map(nodes.map((node) => [node, ALL_CONTROLLER_IDS]));
  const existing = new Map<string, ControllerIds>();
  for (const { spec: nodeSpec } of live.targetNodes) {
    const ids = nodeSpec.subsystems?.[0]?.controllerIDs;
    if (ids !== undefined) existing.set(nodeSpec.nodeName, ids);
  }
  return assignControllerIds(nodes, existing);
}

/** Whether the dataplane of a node knows a field of its spec; one that has not reported yet is of this release. */
function knowsField(node: StoredTargetNode | undefined, field: keyof typeof SPEC_FIELD_REVISIONS): boolean {
  const { startTime, specRevision = 1 } = node?.status ?? {};
  return startTime === undefined || specRevision >= SPEC_FIELD_REVISIONS[field];
}

/**
 * What a dataplane that knows no authentication may serve: hosts that have to prove who they are stay away from it until
 * its pod is replaced.
 */
function withoutAuthentication(spec: NvmeofTargetSpec): NvmeofTargetSpec {
  const hosts = spec.access.hosts.filter(({ dhchap }) => dhchap === undefined);
  return { ...spec, access: { ...spec.access, hosts } };
}

/** Writes and deletes children. */
export class Children {
  readonly #api: Api;
  readonly #applier: Applier;
  readonly #settings: DataplaneSettings;

  constructor(api: Api, applier: Applier, settings: DataplaneSettings) {
    this.#api = api;
    this.#applier = applier;
    this.#settings = settings;
  }

  /** Makes the children what they should be. Objects of nodes that still have a pod stay until it is gone. */
  async apply(desired: DesiredChildren, live: LiveChildren): Promise<void> {
    const { identity, spec, nqn, nodes, metricsPort } = desired;
    const wanted = new Set(nodes);
    const leaving = live.targetNodes.filter(({ spec: { nodeName } }) => !wanted.has(nodeName));
    const draining = leaving.filter(({ spec: { nodeName } }) => live.podNodes.has(nodeName));
    const names = [
      ...nodes.map((node) => targetNodeName(identity.name, node)),
      ...draining.map(({ metadata }) => metadata.name),
    ];
    await this.#applier.apply(RESOURCES.serviceAccounts, buildServiceAccount(identity));
    await this.#applier.apply(RESOURCES.roles, buildRole(identity, names));
    await this.#applier.apply(RESOURCES.roleBindings, buildRoleBinding(identity));

    const ids = controllerIds(desired, live);
    const liveByName = new Map(live.targetNodes.map((object) => [object.metadata.name, object]));
    await forEachLimited(nodes, async (node) => {
      const current = liveByName.get(targetNodeName(identity.name, node));
      const object = buildTargetNode(
        identity,
        knowsField(current, 'subsystems[].access.hosts[].dhchap') ? spec : withoutAuthentication(spec),
        nqn,
        node,
        ids.get(node) ?? ALL_CONTROLLER_IDS,
        knowsField(current, 'subsystems[].namespaces[].backend.blockDevice.expectedSizeBytes')
          ? desired.claimCapacities
          : new Map(),
      );
      await this.#applier.apply(RESOURCES.targetNodes, object, { current });
    });
    const { deviceAccess, deviceClass } = this.#settings;
    if (deviceAccess === 'ResourceClaim') {
      const template = buildResourceClaimTemplate(identity, deviceClass);
      const current = live.claimTemplates.find(({ metadata }) => metadata.name === template.metadata.name);
      await this.#applier.apply(RESOURCES.resourceClaimTemplates, template, { current });
    }
    const daemonSet = buildDaemonSet(identity, spec, this.#settings, metricsPort);
    await this.#applier.apply(RESOURCES.daemonSets, daemonSet, { current: live.daemonSet });

    const budget = buildPodDisruptionBudget(identity, nodes.length);
    await this.#applier.apply(RESOURCES.podDisruptionBudgets, budget);

    const gone = leaving.filter((object) => !draining.includes(object));
    await forEachLimited(gone, ({ metadata }) =>
      this.#delete(RESOURCES.targetNodes, identity, metadata.name),
    );
    const unused = unusedClaimTemplates(live.claimTemplates, { uid: identity.uid, ...live });
    await forEachLimited(unused, ({ metadata }) =>
      this.#delete(RESOURCES.resourceClaimTemplates, identity, metadata.name),
    );
  }

  /** Ends the pods: each drains on SIGTERM. */
  async deletePods(identity: TargetIdentity): Promise<void> {
    await this.#delete(RESOURCES.daemonSets, identity, childName(identity.name));
  }

  /** Deletes what is left once the pods are gone. */
  async deleteRest(identity: TargetIdentity, targetNodes: readonly StoredTargetNode[]): Promise<void> {
    await forEachLimited(targetNodes, ({ metadata }) =>
      this.#delete(RESOURCES.targetNodes, identity, metadata.name),
    );
    const name = childName(identity.name);
    await this.#delete(RESOURCES.podDisruptionBudgets, identity, name);
    await this.#delete(RESOURCES.roleBindings, identity, name);
    await this.#delete(RESOURCES.roles, identity, name);
    await this.#delete(RESOURCES.serviceAccounts, identity, name);
  }

  async #delete(resource: Resource, identity: TargetIdentity, name: string): Promise<void> {
    const id = { namespace: identity.namespace, name };
    this.#applier.forget(resource, id);
    try {
      await this.#api.delete(objectPath(resource, id), { propagationPolicy: 'Background' });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}
