/** What `helm test` looks at: whether an installation does its work, seen from a pod without privileges. */
import type { KubeConfig } from '@kubernetes/client-node';
import { GROUP, VERSION } from '../../crds/api-group.ts';
import { type Api, ApiClient } from '../kubernetes/api-client.ts';
import { ApiError } from '../kubernetes/api-error.ts';
import { withBearerToken } from '../kubernetes/bearer.ts';
import { apiVersionOf, listPath, objectPath, RESOURCES } from '../kubernetes/resource.ts';

/** What is looked at. */
export interface Installation {
  /** Namespace of the release. */
  readonly namespace: string;
  /** The operator's Deployment. */
  readonly deployment: string;
  /** The lease that the operator's replicas compete for. */
  readonly lease: string;
  /**
   * ServiceAccount in the namespace whose name makes the admission policy take it for a dataplane's, and that RBAC lets
   * create NvmeofTargetNodes. Undefined: there is no policy.
   */
  readonly decoyAccount: string | undefined;
  /** Targets that must be serving, as `namespace/name`. */
  readonly targets: readonly string[];
  /** Longest wait for what takes time after an installation. */
  readonly timeoutMs: number;
}

/** One check: what it found, or an error that says what is wrong and where to look. */
export interface Check {
  readonly name: string;
  readonly run: () => Promise<string>;
}

const POLL_MS = 500;

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly message?: string;
}

/** Fields of the objects that are looked at. */
interface Looked {
  readonly metadata: { readonly name: string; readonly generation?: number };
  readonly spec?: {
    readonly replicas?: number;
    readonly holderIdentity?: string;
    readonly renewTime?: string;
    readonly nodeName?: string;
    readonly target?: string;
  };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly updatedReplicas?: number;
    readonly availableReplicas?: number;
    readonly conditions?: readonly Condition[];
    readonly storedVersions?: readonly string[];
    readonly listeners?: readonly { name: string; address?: string; port?: number; phase: string }[];
    readonly token?: string;
  };
}

/** The checks of an installation, in the order in which they make sense. */
export function installationChecks(config: KubeConfig, api: Api, installation: Installation): Check[] {
  const { decoyAccount, targets } = installation;
  return [
    ...[RESOURCES.targets, RESOURCES.targetNodes].map(({ plural }) => ({
      name: `CRD ${plural}.${GROUP} is served`,
      run: () => checkCrd(api, `${plural}.${GROUP}`),
    })),
    { name: 'the operator is available', run: () => checkDeployment(api, installation) },
    { name: 'the operator has a leader at work', run: () => checkLeader(api, installation) },
    { name: 'a correct NvmeofTarget is accepted', run: () => checkAccepted(api, installation) },
    { name: 'a wrong NvmeofTarget is refused', run: () => checkRefused(api, installation) },
    ...(decoyAccount === undefined
      ? []
      : [
          {
            name: 'the admission policy is in force',
            run: () => checkPolicy(config, api, installation, decoyAccount),
          },
        ]),
    ...targets.map((target) => ({
      name: `NvmeofTarget ${target} serves`,
      run: () => checkTarget(api, target, installation.timeoutMs),
    })),
  ];
}

/** Looks again and again until `look` gives a text, and fails with its last complaint. */
async function eventually(timeoutMs: number, look: () => Promise<string | Error>): Promise<string> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const seen = await look();
    if (typeof seen === 'string') return seen;
    if (Date.now() >= deadline) throw seen;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function isTrue(object: Looked, type: string): boolean {
  return object.status?.conditions?.some((one) => one.type === type && one.status === 'True') === true;
}

async function checkCrd(api: Api, name: string): Promise<string> {
  const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${name}`;
  const crd = (await api.get(path)) as Looked;
  if (!isTrue(crd, 'Established')) throw new Error(`it is not established: kubectl describe crd ${name}`);
  return `established, version ${VERSION}`;
}

function checkDeployment(api: Api, { namespace, deployment, timeoutMs }: Installation): Promise<string> {
  const path = `/apis/apps/v1/namespaces/${namespace}/deployments/${deployment}`;
  return eventually(timeoutMs, async () => {
    const { metadata, spec, status } = (await api.get(path)) as Looked;
    const available = status?.availableReplicas ?? 0;
    const seen = `${available} of ${spec?.replicas} replicas available, ${status?.updatedReplicas ?? 0} of this version`;
    const isCurrent = status?.observedGeneration === metadata.generation;
    const allUpdated = (status?.updatedReplicas ?? 0) === spec?.replicas;
    if (isCurrent && allUpdated && available > 0) return seen;
    return new Error(
      `${seen}: kubectl -n ${namespace} describe pods -l app.kubernetes.io/name=weir-operator`,
    );
  });
}

/** Renewal is told by change, not by time: the clocks of two pods need not agree. */
function checkLeader(api: Api, { namespace, lease, timeoutMs }: Installation): Promise<string> {
  const path = objectPath(RESOURCES.leases, { namespace, name: lease });
  let first: string | undefined;
  return eventually(timeoutMs, async () => {
    const { spec } = await api.get(path).then(
      (object) => object as Looked,
      (error: unknown) => {
        if (error instanceof ApiError && error.status === 404) return {} as Looked;
        throw error;
      },
    );
    if (!spec?.holderIdentity) return new Error(`nobody holds the lease ${namespace}/${lease}`);
    first ??= spec.renewTime;
    if (spec.renewTime !== first) return `${spec.holderIdentity} renews its lease`;
    return new Error(`${spec.holderIdentity} holds the lease ${namespace}/${lease} and does not renew it`);
  });
}

function sampleTarget(namespace: string, backend: object) {
  return {
    apiVersion: apiVersionOf(RESOURCES.targets),
    kind: RESOURCES.targets.kind,
    metadata: { name: 'weir-installation-check', namespace },
    spec: {
      listeners: [{ name: 'storage', addressFrom: { cidr: '192.0.2.0/24' } }],
      namespaces: [{ nsid: 1, backend }],
    },
  };
}

async function checkAccepted(api: Api, { namespace }: Installation): Promise<string> {
  const path = `${listPath(RESOURCES.targets, namespace)}?dryRun=All`;
  await api.create(path, sampleTarget(namespace, { memory: { size: '1Mi' } }));
  return 'by the API server, as a dry run';
}

async function checkRefused(api: Api, { namespace }: Installation): Promise<string> {
  const path = `${listPath(RESOURCES.targets, namespace)}?dryRun=All`;
  const both = { memory: { size: '1Mi' }, file: { path: '/var/lib/weir/x', size: '1Mi' } };
  const refusal = await refusalOf(api.create(path, sampleTarget(namespace, both)));
  if (refusal?.status === 422) return 'by the API server, with its reason';
  if (refusal !== undefined) throw refusal;
  throw new Error(
    'it was accepted: the CRDs in the cluster are not those of the chart (crds.install=false?)',
  );
}

async function refusalOf(attempt: Promise<unknown>): Promise<ApiError | undefined> {
  try {
    await attempt;
    return undefined;
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
}

/** Tries, as a dry run, what RBAC permits the decoy and the policy forbids every dataplane. */
async function checkPolicy(
  config: KubeConfig,
  api: Api,
  { namespace, timeoutMs }: Installation,
  decoyAccount: string,
): Promise<string> {
  const account = objectPath(RESOURCES.serviceAccounts, { namespace, name: decoyAccount });
  const request = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} };
  const { status } = (await api.create(`${account}/token`, request)) as Looked;
  const decoy = new ApiClient(withBearerToken(config, status?.token ?? ''));
  const object = {
    apiVersion: apiVersionOf(RESOURCES.targetNodes),
    kind: RESOURCES.targetNodes.kind,
    metadata: { name: 'weir-installation-check', namespace },
    spec: {
      nodeName: 'none',
      target: `${namespace}/weir-installation-check`,
      listeners: [{ name: 'storage', addressFrom: { cidr: '192.0.2.0/24' } }],
      subsystems: [{ nqn: 'nqn.2026-11.dev.weir:installation-check' }],
    },
  };
  try {
    return await eventually(timeoutMs, async () => {
      const attempt = decoy.create(`${listPath(RESOURCES.targetNodes, namespace)}?dryRun=All`, object);
      const refusal = await refusalOf(attempt);
      if (refusal?.detail.includes('ValidatingAdmissionPolicy') === true) return 'it refuses a stranger';
      return (
        refusal ??
        new Error('a dataplane may create NvmeofTargetNodes: kubectl get validatingadmissionpolicies')
      );
    });
  } finally {
    decoy.close();
  }
}

function checkTarget(api: Api, target: string, timeoutMs: number): Promise<string> {
  const [namespace = '', name = ''] = target.split('/');
  return eventually(timeoutMs, async () => {
    const object = (await api.get(objectPath(RESOURCES.targets, { namespace, name }))) as Looked;
    const ready = object.status?.conditions?.find(({ type }) => type === 'Ready');
    if (ready?.status !== 'True')
      return new Error(`it is not Ready: ${ready?.message ?? 'no operator has looked at it'}`);
    const { items } = (await api.get(listPath(RESOURCES.targetNodes, namespace))) as { items: Looked[] };
    const mine = items.filter(({ spec }) => spec?.target === target);
    const listeners = mine.flatMap(({ status }) => status?.listeners ?? []);
    const idle = listeners.find(({ phase, address }) => phase !== 'Serving' || address === undefined);
    if (listeners.length === 0) return new Error('none of its nodes reports a listener');
    if (idle !== undefined) return new Error(`listener ${idle.name} is ${idle.phase}`);
    const commands = listeners.map(({ address, port }) => `nvme discover -t rdma -a ${address} -s ${port}`);
    return `on ${mine.length} nodes; from a host: ${commands.join('; ')}`;
  });
}
