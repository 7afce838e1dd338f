import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DATAPLANE_FIELD_MANAGER } from '../../crds/api-group.ts';
import { ApiClient } from '../../operator/kubernetes/api-client.ts';
import { ApiError } from '../../operator/kubernetes/api-error.ts';
import { apiVersionOf, listPath, objectPath, RESOURCES } from '../../operator/kubernetes/resource.ts';
import { type RunningOperator, startOperator } from '../../operator/operator.ts';
import { SAMPLE_SETTINGS, sampleSpecInput } from '../../operator/testing/samples.ts';
import { type AnyObject, TestCluster } from '../../operator/testing/test-cluster.ts';
import { CHART, Helm, RELEASE, RELEASE_NAMESPACE } from './tests/helm.ts';
import {
  type ReviewedRule,
  reviewedPermissions,
  singlePermissions,
  singlePermissionsOf,
} from './tests/permissions.ts';

const { targets, targetNodes } = RESOURCES;
const NAMESPACE = 'storage';
const DATAPLANE = 'weir-target-fast';
const OPERATOR = 'weir-operator';

let helm: Helm;
let cluster: TestCluster;
let operator: RunningOperator;
const stop = new AbortController();
const clients: ApiClient[] = [];

/** The API as whoever holds the token sees it. */
function clientFor(token: string): ApiClient {
  const client = new ApiClient(cluster.configFor(token));
  clients.push(client);
  return client;
}

/** A request for the operator's metrics. */
const scrape = (token?: string) =>
  fetch(`http://127.0.0.1:${operator.port}/metrics`, {
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
  });

// The chart's operator at work with the chart's permissions: two targets on two nodes, and their pods.
beforeAll(async () => {
  [helm, cluster] = await Promise.all([Helm.open(), TestCluster.start({ crds: false })]);
  const secured = [
    'metrics.authentication.enabled=true,metrics.tls.secretName=tls',
    'networkPolicy.enabled=true,monitoring.bearerTokenSecret.name=token',
  ].flatMap((values) => ['--set', values]);
  await helm.release(cluster.kubeconfig, 'install', RELEASE, CHART, '--create-namespace', ...secured);
  await helm.kubectl(cluster.kubeconfig, 'wait', '--for=condition=Established', 'crd', '--all');
  const token = await cluster.accountToken(RELEASE_NAMESPACE, OPERATOR);
  const options = { metricsAddress: '127.0.0.1:0', leaderElect: true, logLevel: 'info' } as const;
  operator = await startOperator(
    cluster.configFor(token),
    {
      ...options,
      namespace: RELEASE_NAMESPACE,
      dataplane: { ...SAMPLE_SETTINGS, metricsAuthentication: true },
    },
    pino({ level: 'silent' }),
    stop.signal,
  );
  for (const node of ['node-a', 'node-b']) await cluster.createNode(node);
  await cluster.createNamespace(NAMESPACE);
  await cluster.createNamespace('elsewhere');
  for (const name of ['fast', 'slow']) {
    const nqn = `nqn.2026-11.dev.weir:${name}`;
    const cidr = name === 'fast' ? '10.9.0.0/24' : '10.9.1.0/24';
    const namespaces = [{ nsid: 1, backend: { memory: { size: '256Mi' } } }];
    const listeners = [{ name: 'storage', addressFrom: { cidr } }];
    await cluster.applyTarget(
      NAMESPACE,
      name,
      sampleSpecInput({ scope: 'PerNode', nqn, listeners, namespaces }),
    );
    await cluster.waitForCondition(NAMESPACE, name, 'Accepted', { status: 'True' });
    for (const node of ['node-a', 'node-b']) {
      await cluster.runPod(NAMESPACE, name, node);
      await cluster.reportServing(NAMESPACE, name, node);
    }
    await cluster.waitForCondition(NAMESPACE, name, 'Ready', { status: 'True' });
  }
});
afterAll(async () => {
  for (const client of clients) client.close();
  stop.abort();
  await operator?.ended;
  await cluster?.stop();
  helm?.close();
});

describe('metrics behind authentication', () => {
  beforeAll(async () => {
    for (const name of ['prometheus', 'stranger']) {
      await cluster.api.create(listPath(RESOURCES.serviceAccounts, NAMESPACE), { metadata: { name } });
    }
    await cluster.api.create('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      metadata: { name: 'prometheus' },
      roleRef: {
        apiGroup: 'rbac.authorization.k8s.io',
        kind: 'ClusterRole',
        name: `${OPERATOR}-${RELEASE_NAMESPACE}-metrics-reader`,
      },
      subjects: [{ kind: 'ServiceAccount', name: 'prometheus', namespace: NAMESPACE }],
    });
  });

  it('are for accounts that are bound to the role of the chart', async () => {
    const token = await cluster.accountToken(NAMESPACE, 'prometheus');
    await cluster.waitFor('the binding to be known', async () => (await scrape(token)).status === 200);
    expect(await (await scrape(token)).text()).toContain('leader_election_master_status');
  });

  const refused: readonly (readonly [string, () => Promise<string | undefined>, number, string])[] = [
    ['of an account that is not bound', () => cluster.accountToken(NAMESPACE, 'stranger'), 403, 'bind it to'],
    ['of a dataplane', () => cluster.accountToken(NAMESPACE, DATAPLANE), 403, 'bind it to'],
    ['that nobody signed', async () => 'eyJhbGciOiJub25lIn0.e30.', 401, 'does not know this token'],
    ['that is missing', async () => undefined, 401, 'send Authorization: Bearer TOKEN'],
  ];
  it.each(refused)('are refused for a token %s', async (_, token, status, message) => {
    const answer = await scrape(await token());
    expect(answer.status).toBe(status);
    expect(await answer.text()).toContain(message);
  });

  it('leave probes open', async () => {
    for (const path of ['healthz', 'readyz']) {
      expect((await fetch(`http://127.0.0.1:${operator.port}/${path}`)).status).toBe(200);
    }
  });
});

describe('what the API server lets each account do', () => {
  const NAMESPACES = [RELEASE_NAMESPACE, NAMESPACE, 'elsewhere', 'default', 'kube-system'];

  /** Everything that the holder of a token may do in a namespace, by the API server's own word. */
  async function allowed(token: string, namespace: string): Promise<string[]> {
    const review = (await clientFor(token).create('/apis/authorization.k8s.io/v1/selfsubjectrulesreviews', {
      spec: { namespace },
    })) as { status: { resourceRules: ReviewedRule[]; nonResourceRules: ReviewedRule[] } };
    return singlePermissions([...review.status.resourceRules, ...review.status.nonResourceRules]);
  }

  /** The same without what everybody may: asking what one may do, and discovery. */
  async function granted(token: string, namespace: string): Promise<string[]> {
    const everybody = new Set(await allowed(await cluster.accountToken('elsewhere', 'default'), namespace));
    return (await allowed(token, namespace)).filter((permission) => !everybody.has(permission));
  }

  /** What the page says that an account may do in a namespace. */
  async function reviewed(account: string, where: readonly string[]): Promise<string[]> {
    const page = await readFile(new URL('../../docs/reference/permissions.md', import.meta.url), 'utf8');
    const rows = reviewedPermissions(page).filter((row) => row.account === account);
    const mine = rows.filter((row) => where.includes(row.where));
    expect(rows.length).toBeGreaterThan(0);
    return singlePermissionsOf(mine).flatMap((permission) =>
      permission.endsWith(' TARGET-NODE')
        ? ['fast-node-a', 'fast-node-b'].map((name) => permission.replace('TARGET-NODE', name))
        : [permission],
    );
  }

  beforeAll(async () => {
    await cluster.api.create(listPath(RESOURCES.serviceAccounts, 'elsewhere'), {
      metadata: { name: 'default' },
    });
  });

  it.each(NAMESPACES)('is what docs/reference/permissions.md says of the operator, in %s', async (where) => {
    const token = await cluster.accountToken(RELEASE_NAMESPACE, OPERATOR);
    expect(await granted(token, where)).toEqual((await reviewed(OPERATOR, ['cluster', where])).sort());
  });

  it.each(NAMESPACES)('is what docs/reference/permissions.md says of a dataplane, in %s', async (where) => {
    const token = await cluster.accountToken(NAMESPACE, DATAPLANE, `${DATAPLANE}-node-a`);
    const place = where === NAMESPACE ? ['NAMESPACE'] : [];
    expect(await granted(token, where)).toEqual((await reviewed('weir-target-TARGET', place)).sort());
  });

  /** `verb group/resource/subresource name` and who may not do so, wherever it is. */
  const FORBIDDEN: readonly (readonly [string, string, readonly string[]])[] = [
    ['get', 'secrets', [OPERATOR, DATAPLANE]],
    ['list', 'secrets', [OPERATOR, DATAPLANE]],
    ['get', 'configmaps', [OPERATOR, DATAPLANE]],
    ['create', 'pods', [OPERATOR, DATAPLANE]],
    ['create', 'pods/exec', [OPERATOR, DATAPLANE]],
    ['create', 'pods/attach', [OPERATOR, DATAPLANE]],
    ['create', 'pods/portforward', [OPERATOR, DATAPLANE]],
    ['create', 'pods/ephemeralcontainers', [OPERATOR, DATAPLANE]],
    ['get', 'nodes/proxy', [OPERATOR, DATAPLANE]],
    ['patch', 'nodes', [OPERATOR, DATAPLANE]],
    ['create', 'serviceaccounts/token', [OPERATOR, DATAPLANE]],
    ['impersonate', 'users', [OPERATOR, DATAPLANE]],
    ['impersonate', 'serviceaccounts', [OPERATOR, DATAPLANE]],
    ['create', 'rbac.authorization.k8s.io/clusterroles', [OPERATOR, DATAPLANE]],
    ['create', 'rbac.authorization.k8s.io/clusterrolebindings', [OPERATOR, DATAPLANE]],
    ['escalate', 'rbac.authorization.k8s.io/roles', [OPERATOR, DATAPLANE]],
    ['bind', 'rbac.authorization.k8s.io/roles', [OPERATOR, DATAPLANE]],
    ['bind', 'rbac.authorization.k8s.io/clusterroles', [OPERATOR, DATAPLANE]],
    ['create', 'weir.dev/nvmeoftargets', [OPERATOR, DATAPLANE]],
    ['delete', 'weir.dev/nvmeoftargets', [OPERATOR, DATAPLANE]],
    ['deletecollection', 'weir.dev/nvmeoftargetnodes', [OPERATOR, DATAPLANE]],
    ['deletecollection', 'pods', [OPERATOR, DATAPLANE]],
    ['update', 'admissionregistration.k8s.io/validatingadmissionpolicies', [OPERATOR, DATAPLANE]],
    ['delete', 'admissionregistration.k8s.io/validatingadmissionpolicybindings', [OPERATOR, DATAPLANE]],
    ['patch', 'apiextensions.k8s.io/customresourcedefinitions', [OPERATOR, DATAPLANE]],
    ['patch', 'weir.dev/nvmeoftargetnodes', [DATAPLANE]],
    ['delete', 'weir.dev/nvmeoftargetnodes', [DATAPLANE]],
    ['update', 'weir.dev/nvmeoftargetnodes/status', [DATAPLANE]],
    ['get', 'weir.dev/nvmeoftargets', [DATAPLANE]],
    ['list', 'pods', [DATAPLANE]],
    ['get', 'nodes', [DATAPLANE]],
    ['list', 'events', [DATAPLANE]],
    ['get', 'coordination.k8s.io/leases', [DATAPLANE]],
  ];
  it.each(FORBIDDEN)('is not: %s %s', async (verb, what, accounts) => {
    const [group = '', resource = '', subresource = ''] = what.includes('.')
      ? what.split('/')
      : ['', ...what.split('/')];
    for (const account of accounts) {
      const namespace = account === OPERATOR ? RELEASE_NAMESPACE : NAMESPACE;
      const own = { user: `system:serviceaccount:${namespace}:${account}` };
      const groups = [
        'system:serviceaccounts',
        `system:serviceaccounts:${namespace}`,
        'system:authenticated',
      ];
      for (const where of ['', RELEASE_NAMESPACE, NAMESPACE, 'kube-system']) {
        const resourceAttributes = { verb, group, resource, subresource, namespace: where };
        const review = (await cluster.api.create('/apis/authorization.k8s.io/v1/subjectaccessreviews', {
          spec: { ...own, groups, resourceAttributes },
        })) as { status: { allowed: boolean } };
        expect(review.status.allowed, `${account} in "${where}"`).toBe(false);
      }
    }
  });

  it('does not let the operator grant more than it has', async () => {
    const api = clientFor(await cluster.accountToken(RELEASE_NAMESPACE, OPERATOR));
    const id = { namespace: NAMESPACE, name: 'weir-target-more' };
    const apiVersion = 'rbac.authorization.k8s.io/v1';
    const role = (rule: object) =>
      api.apply(
        objectPath(RESOURCES.roles, id),
        { apiVersion, kind: 'Role', metadata: id, rules: [rule] },
        'weir-operator',
      );
    await expect(role({ apiGroups: [''], resources: ['secrets'], verbs: ['get'] })).rejects.toThrow(
      'attempting to grant RBAC permissions not currently held',
    );
    const binding = api.apply(
      objectPath(RESOURCES.roleBindings, id),
      {
        apiVersion,
        kind: 'RoleBinding',
        metadata: id,
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
        subjects: [{ kind: 'ServiceAccount', name: OPERATOR, namespace: RELEASE_NAMESPACE }],
      },
      'weir-operator',
    );
    await expect(binding).rejects.toThrow('attempting to grant RBAC permissions not currently held');
  });

  it('was enough for all that the operator did', async () => {
    const metrics = await (await scrape(await cluster.accountToken(NAMESPACE, 'prometheus'))).text();
    expect(metrics).toContain('code="200"');
    expect(metrics).not.toContain('code="403"');
  });
});

describe('the admission policy, against whoever has stolen the token of a dataplane', () => {
  /** A token of the target `fast`'s pod on node-a, with the permissions that the operator gave it. */
  let stolen: ApiClient;
  /** Of the target `slow`'s pod on node-a, whose account somebody has made an administrator of everything. */
  let mighty: ApiClient;

  const status = { connectedHosts: 7 };
  const statusPath = (name: string, namespace = NAMESPACE) =>
    objectPath(targetNodes, { namespace, name }, 'status');
  const report = (name: string, more: object = {}, namespace = NAMESPACE) => ({
    apiVersion: apiVersionOf(targetNodes),
    kind: targetNodes.kind,
    metadata: { name, namespace, ...more },
    status,
  });
  const apply = (api: ApiClient, name: string, namespace = NAMESPACE) =>
    api.apply(statusPath(name, namespace), report(name, {}, namespace), DATAPLANE_FIELD_MANAGER);
  const patch = (api: ApiClient, path: string, body: object = { status }) =>
    api.mergePatch(`${path}?fieldManager=${DATAPLANE_FIELD_MANAGER}`, body);
  const event = (change: object = {}) => ({
    metadata: { name: `fast-node-a.${Math.random().toString(16).slice(2)}`, namespace: NAMESPACE },
    eventTime: '2026-11-23T08:00:00.000000Z',
    type: 'Warning',
    reason: 'LinkDown',
    action: 'Draining',
    note: 'the link is down',
    reportingController: 'weir.dev/dataplane',
    reportingInstance: 'node-a',
    regarding: {
      apiVersion: 'weir.dev/v1alpha1',
      kind: 'NvmeofTargetNode',
      name: 'fast-node-a',
      namespace: NAMESPACE,
    },
    ...change,
  });
  const read = async (name: string) =>
    (await cluster.api.get(objectPath(targetNodes, { namespace: NAMESPACE, name }))) as AnyObject;
  const events = listPath(RESOURCES.events, NAMESPACE);
  const coreEvents = `/api/v1/namespaces/${NAMESPACE}/events`;

  beforeAll(async () => {
    stolen = clientFor(await cluster.accountToken(NAMESPACE, DATAPLANE, `${DATAPLANE}-node-a`));
    mighty = clientFor(await cluster.accountToken(NAMESPACE, 'weir-target-slow', 'weir-target-slow-node-a'));
    await cluster.api.create('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      metadata: { name: 'mistake' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
      subjects: [{ kind: 'ServiceAccount', name: 'weir-target-slow', namespace: NAMESPACE }],
    });
    const spec = (await read('slow-node-a'))['spec'];
    const foreign = {
      ...report('slow-node-a', {}, 'elsewhere'),
      spec: { ...spec, target: 'elsewhere/slow' },
    };
    await cluster.api.create(listPath(targetNodes, 'elsewhere'), foreign);
    for (const [what, attempt] of [
      ['the policy', () => apply(stolen, 'fast-node-b')],
      ['the policy on Events', () => stolen.create(events, event({ reportingInstance: 'node-b' }))],
    ] as const) {
      await cluster.waitFor(`${what} to be in force`, () =>
        attempt().then(
          () => false,
          (error: Error) => error.message.includes('ValidatingAdmissionPolicy'),
        ),
      );
    }
  });

  it('lets a dataplane report on its own node, and tell of it', async () => {
    await apply(stolen, 'fast-node-a');
    expect((await cluster.find(targetNodes, 'fast-node-a', NAMESPACE))?.['status']).toMatchObject(status);
    const { metadata } = (await stolen.create(events, event())) as { metadata: { name: string } };
    await stolen.mergePatch(objectPath(RESOURCES.events, { namespace: NAMESPACE, name: metadata.name }), {
      series: { count: 2, lastObservedTime: '2026-11-23T08:00:10.000000Z' },
    });
    expect((await cluster.find(RESOURCES.events, metadata.name, NAMESPACE))?.['series'].count).toBe(2);
  });

  it('lets others write: the operator speaks for a dataplane that has ended, an administrator may mend', async () => {
    const token = await cluster.accountToken(RELEASE_NAMESPACE, OPERATOR);
    await apply(clientFor(token), 'fast-node-b');
    await patch(cluster.api, statusPath('fast-node-b'), { status: { connectedHosts: 0 } });
  });

  /** What is tried, how, and what the answer says. */
  const attacks: readonly (readonly [string, () => Promise<unknown>, string])[] = [
    [
      "applying another node's status",
      () => apply(stolen, 'fast-node-b'),
      'this is the object of node node-b, the token belongs to node node-a',
    ],
    [
      "patching another node's status",
      () => patch(stolen, statusPath('fast-node-b')),
      'this is the object of node node-b, the token belongs to node node-a',
    ],
    [
      "only asking what would happen to another node's status",
      () => stolen.mergePatch(`${statusPath('fast-node-b')}?dryRun=All`, { status }),
      'this is the object of node node-b, the token belongs to node node-a',
    ],
    [
      "another target's status",
      () => apply(stolen, 'slow-node-a'),
      'cannot patch resource "nvmeoftargetnodes/status"',
    ],
    [
      'status under another field manager',
      () => stolen.apply(statusPath('fast-node-a'), report('fast-node-a'), 'weir-operator'),
      'writes as field manager weir-dataplane, not as "weir-operator"',
    ],
    [
      'status under no field manager',
      () => stolen.mergePatch(statusPath('fast-node-a'), { status }),
      'a dataplane writes as field manager weir-dataplane',
    ],
    [
      'replacing its status',
      () => stolen.replace(statusPath('fast-node-a'), report('fast-node-a')),
      'cannot update resource "nvmeoftargetnodes/status"',
    ],
    [
      'its spec',
      () =>
        patch(stolen, objectPath(targetNodes, { namespace: NAMESPACE, name: 'fast-node-a' }), {
          spec: { paused: true },
        }),
      'cannot patch resource "nvmeoftargetnodes"',
    ],
    [
      'deleting its object',
      () => stolen.delete(objectPath(targetNodes, { namespace: NAMESPACE, name: 'fast-node-a' })),
      'cannot delete resource "nvmeoftargetnodes"',
    ],
    [
      'deleting all objects',
      () => stolen.delete(listPath(targetNodes, NAMESPACE)),
      'cannot deletecollection resource "nvmeoftargetnodes"',
    ],
    ['reading all objects', () => stolen.get(listPath(targetNodes, NAMESPACE)), 'cannot list resource'],
    [
      'an Event of another node',
      () => stolen.create(events, event({ reportingInstance: 'node-b' })),
      'the node that its token belongs to',
    ],
    [
      "an Event in the operator's name",
      () => stolen.create(events, event({ reportingController: 'weir.dev/operator' })),
      'a dataplane reports Events as weir.dev/dataplane',
    ],
    [
      'an Event about a pod',
      () =>
        stolen.create(
          events,
          event({ regarding: { apiVersion: 'v1', kind: 'Pod', name: 'fast-x', namespace: NAMESPACE } }),
        ),
      'Events about the NvmeofTargetNodes of its own target only',
    ],
    [
      'an Event about another target',
      () => stolen.create(events, event({ regarding: { ...event().regarding, name: 'slow-node-a' } })),
      'Events about the NvmeofTargetNodes of its own target only',
    ],
    [
      'an Event of the core group',
      () => stolen.create(coreEvents, {}),
      'cannot create resource "events" in API group ""',
    ],
    [
      'being somebody else',
      () => impersonate({ 'impersonate-user': `system:serviceaccount:${NAMESPACE}:weir-target-slow` }),
      'cannot impersonate',
    ],
    [
      'a token for itself that names no pod',
      () =>
        stolen.create(
          `${objectPath(RESOURCES.serviceAccounts, { namespace: NAMESPACE, name: DATAPLANE })}/token`,
          { spec: {} },
        ),
      'cannot create resource "serviceaccounts/token"',
    ],
    // An administrator by mistake: the policy alone stands in the way.
    [
      "with every permission: another target's status",
      () => apply(mighty, 'fast-node-a'),
      'this one belongs to storage/fast, the token to weir-target-slow in namespace storage',
    ],
    [
      "with every permission: another namespace's status",
      () => apply(mighty, 'slow-node-a', 'elsewhere'),
      'this one belongs to elsewhere/slow, the token to weir-target-slow in namespace storage',
    ],
    [
      "with every permission: another node's status",
      () => apply(mighty, 'slow-node-b'),
      'this is the object of node node-b, the token belongs to node node-a',
    ],
    [
      'with every permission: a spec',
      () =>
        patch(mighty, objectPath(targetNodes, { namespace: NAMESPACE, name: 'slow-node-a' }), {
          spec: { paused: true },
        }),
      'and nothing else of weir.dev',
    ],
    [
      'with every permission: a new object',
      async () => {
        const spec = (await read('slow-node-a'))['spec'];
        return mighty.create(listPath(targetNodes, NAMESPACE), { ...report('slow-node-c'), spec });
      },
      'and nothing else of weir.dev',
    ],
    [
      'with every permission: deleting an object',
      () => mighty.delete(objectPath(targetNodes, { namespace: NAMESPACE, name: 'slow-node-a' })),
      'and nothing else of weir.dev',
    ],
    [
      'with every permission: deleting all',
      () => mighty.delete(listPath(targetNodes, NAMESPACE)),
      'and nothing else of weir.dev',
    ],
    [
      'with every permission: a target',
      () =>
        patch(mighty, objectPath(targets, { namespace: NAMESPACE, name: 'fast' }), {
          spec: { paused: true },
        }),
      'and nothing else of weir.dev',
    ],
    [
      "with every permission: a target's status",
      () => patch(mighty, objectPath(targets, { namespace: NAMESPACE, name: 'slow' }, 'status')),
      'and nothing else of weir.dev',
    ],
    ['with every permission: deleting Events', () => mighty.delete(events), 'and nothing else of Events'],
  ];

  /** A request of the stolen token in somebody else's name. */
  async function impersonate(headers: Record<string, string>): Promise<unknown> {
    const config = cluster.configFor(await cluster.accountToken(NAMESPACE, DATAPLANE, `${DATAPLANE}-node-a`));
    const user = config.getCurrentUser();
    const asOther = new ApiClient(
      Object.assign(config, {
        applyToHTTPSOptions: async (options: { headers?: Record<string, string> }) => {
          const cluster = config.getCurrentCluster();
          Object.assign(options, { ca: Buffer.from(cluster?.caData ?? '', 'base64') });
          options.headers = { authorization: `Bearer ${user?.token}`, ...headers };
        },
      }),
    );
    clients.push(asOther);
    return apply(asOther, 'slow-node-a');
  }

  it.each(attacks)('refuses %s, and says why', async (_, attempt, message) => {
    const refusal = await attempt().then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(refusal).toBeInstanceOf(ApiError);
    expect((refusal as ApiError).message).toContain(message);
    expect(refusal).toMatchObject({ status: 403 });
  });

  it('refuses a node name that the holder of a token claims by itself', async () => {
    const headers = {
      'impersonate-user': `system:serviceaccount:${NAMESPACE}:${DATAPLANE}`,
      'impersonate-extra-authentication.kubernetes.io%2fnode-name': 'node-b',
    };
    await expect(impersonate(headers)).rejects.toThrow('cannot impersonate');
  });

  it('lets labels, owners and finalizers alone when they come with a status', async () => {
    const before = await read('fast-node-a');
    const change = {
      labels: { 'weir.dev/target': 'slow', evil: 'yes' },
      annotations: { evil: 'yes' },
      finalizers: ['evil/finalizer'],
      ownerReferences: [],
    };
    await stolen.apply(statusPath('fast-node-a'), report('fast-node-a', change), DATAPLANE_FIELD_MANAGER);
    await patch(stolen, statusPath('fast-node-a'), { metadata: change, spec: { paused: true }, status });
    const after = await read('fast-node-a');
    for (const field of ['labels', 'annotations', 'finalizers', 'ownerReferences'] as const) {
      expect(after.metadata[field], field).toEqual(before.metadata[field]);
    }
    expect(after['spec']).toEqual(before['spec']);
  });

  it('refuses a token that belongs to no pod', async () => {
    const unbound = clientFor(await cluster.accountToken(NAMESPACE, DATAPLANE));
    await expect(apply(unbound, 'fast-node-a')).rejects.toThrow('the token belongs to no node');
    await expect(unbound.create(events, event())).rejects.toThrow('the node that its token belongs to');
  });

  it('knows a token no more when its pod is gone', async () => {
    const pod = 'weir-target-slow-node-b';
    const late = clientFor(await cluster.accountToken(NAMESPACE, 'weir-target-slow', pod));
    await cluster.endPod(NAMESPACE, pod);
    // Not used before: an answer about a token is remembered for ten seconds.
    await cluster.waitFor('the token to be refused', () =>
      apply(late, 'slow-node-b').then(
        () => false,
        (error: ApiError) => error.status === 401,
      ),
    );
  });
});

describe('the admission policy, against whoever has stolen the token of the operator', () => {
  const { daemonSets, serviceAccounts, pods } = RESOURCES;
  const id = { namespace: NAMESPACE, name: DATAPLANE };
  let stolen: ApiClient;
  let daemonSet: AnyObject;

  beforeAll(async () => {
    stolen = clientFor(await cluster.accountToken(RELEASE_NAMESPACE, OPERATOR));
    daemonSet = (await cluster.api.get(objectPath(daemonSets, id))) as AnyObject;
    await cluster.api.create(listPath(serviceAccounts, 'kube-system'), { metadata: { name: 'cni' } });
    const containers = [{ name: 'cni', image: 'cni' }];
    const spec = { serviceAccountName: 'cni', automountServiceAccountToken: false, containers };
    await cluster.api.create(listPath(pods, 'kube-system'), { metadata: { name: 'cni' }, spec });
  });

  // biome-ignore lint/suspicious/noExplicitAny: a pod template, changed at places that the API knows.
  type Template = any;

  /** Applies the target's DaemonSet with a change to its pods, as a dry run. */
  function run(
    change: (pod: Template, container: Template, annotations: Record<string, string>) => void,
    name = DATAPLANE,
    namespace = NAMESPACE,
  ) {
    const { selector, updateStrategy, template } = structuredClone(daemonSet['spec']);
    change(template.spec, template.spec.containers[0], template.metadata.annotations);
    const { labels, ownerReferences } = daemonSet.metadata;
    return stolen.apply(
      `${objectPath(daemonSets, { namespace, name })}?dryRun=All`,
      {
        apiVersion: 'apps/v1',
        kind: 'DaemonSet',
        metadata: { name, namespace, labels, ownerReferences },
        spec: { selector, updateStrategy, template },
      },
      'weir-operator',
    );
  }
  const mount = (volume: object) => (pod: Template) => {
    pod.volumes = [...(pod.volumes ?? []), { name: 'more', ...volume }];
  };

  it.each<[string, Parameters<typeof run>[0]]>([
    ['the pods of a target', () => undefined],
    [
      'a secondary interface',
      (pod, container, annotations) => {
        Object.assign(pod, { hostNetwork: false, dnsPolicy: 'ClusterFirst' });
        container.ports[0].hostPort = undefined;
        annotations['k8s.v1.cni.cncf.io/networks'] = 'storage-net';
      },
    ],
    ['a directory for files', mount({ hostPath: { path: '/var/lib/weir/a', type: 'DirectoryOrCreate' } })],
    ['a block device', mount({ hostPath: { path: '/dev/vdb', type: 'BlockDevice' } })],
    [
      'making soft devices anew',
      (pod, container) => {
        mount({ emptyDir: { sizeLimit: '1Mi' } })(pod);
        container.securityContext.capabilities.add.push('NET_ADMIN');
      },
    ],
    ['a claim', mount({ persistentVolumeClaim: { claimName: 'data' } })],
    ['the Secret of metrics', mount({ secret: { secretName: 'tls' } })],
    [
      'the keys of a host',
      mount({
        secret: { secretName: 'host-a', optional: true, items: [{ key: 'hostKey', path: 'hostKey' }] },
      }),
    ],
  ])('permits %s', async (_, change) => {
    await run(change);
  });

  it('is one that the API server understands too where devices are claimed', async () => {
    const values = ['dataplane.deviceAccess=ResourceClaim', 'dataplane.deviceClassName=rdma.example'];
    const policies = (await helm.template(values.flatMap((value) => ['--set', value]))).filter(
      ({ kind, metadata }) => kind === 'ValidatingAdmissionPolicy' && metadata.name.includes('-operator'),
    );
    expect(policies.length).toBeGreaterThan(1);
    const file = join(helm.home, 'policies.json');
    await writeFile(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: policies }));
    await helm.kubectl(
      cluster.kubeconfig,
      'apply',
      '--dry-run=server',
      '--server-side',
      '--force-conflicts',
      '-f',
      file,
    );
  });

  const attacks: readonly (readonly [string, () => Promise<unknown>, string])[] = [
    [
      'pods under another name',
      () => run((pod) => Object.assign(pod, { serviceAccountName: 'evil' }), 'evil', 'kube-system'),
      'named weir-target-… only',
    ],
    [
      'another image',
      () => run((_, container) => Object.assign(container, { image: 'evil' })),
      'dataplanes of the image weir only',
    ],
    [
      'an image whose name begins like it',
      () => run((_, container) => Object.assign(container, { image: 'weir-evil:1' })),
      'dataplanes of the image weir only',
    ],
    [
      'another command',
      () => run((_, container) => Object.assign(container, { command: ['sh', '-c', 'id'] })),
      'dataplanes of the image weir only',
    ],
    [
      'a second container',
      () => run((pod) => pod.containers.push({ name: 'second', image: 'weir:1' })),
      'dataplanes of the image weir only',
    ],
    [
      'a container before it',
      () => run((pod) => Object.assign(pod, { initContainers: [{ name: 'first', image: 'weir:1' }] })),
      'dataplanes of the image weir only',
    ],
    [
      'a command as a probe',
      () =>
        run((_, container) => {
          container.livenessProbe = { exec: { command: ['id'] } };
        }),
      'runs no further commands',
    ],
    [
      'a Secret in the environment',
      () =>
        run((_, container) =>
          container.env.push({ name: 'X', valueFrom: { secretKeyRef: { name: 'secret', key: 'key' } } }),
        ),
      'nothing but fields of its pod',
    ],
    [
      'devices by claim',
      () => run((pod) => Object.assign(pod, { resourceClaims: [{ name: 'x', resourceClaimName: 'x' }] })),
      'claims no devices',
    ],
    [
      'devices by annotation',
      () =>
        run((_pod, _container, annotations) => {
          annotations['cdi.k8s.io/all'] = 'vendor.example/device=all';
        }),
      'none that give devices',
    ],
    [
      'other keys of a Secret',
      () => run(mount({ secret: { secretName: 'admin', items: [{ key: 'token', path: 'hostKey' }] } })),
      'of Secrets only hostKey and controllerKey',
    ],
    [
      'all keys of a Secret',
      () => run(mount({ secret: { secretName: 'admin', items: [] } })),
      'of Secrets only hostKey and controllerKey',
    ],
    [
      "somebody else's account",
      () => run((pod) => Object.assign(pod, { serviceAccountName: 'weir-target-slow' })),
      'the account of its own target',
    ],
    [
      'a privileged container',
      () =>
        run((_, { securityContext }) =>
          Object.assign(securityContext, { privileged: true, allowPrivilegeEscalation: true }),
        ),
      'no more rights than',
    ],
    [
      'more capabilities',
      () => run((_, { securityContext }) => securityContext.capabilities.add.push('SYS_ADMIN')),
      'no more rights than',
    ],
    [
      "the node's processes",
      () => run((pod) => Object.assign(pod, { hostPID: true })),
      'no more rights than',
    ],
    [
      'a Secret as files',
      () => run(mount({ secret: { secretName: 'other' } })),
      'of Secrets only hostKey and controllerKey, and that of metrics.tls',
    ],
    [
      'a token as a file',
      () => run(mount({ projected: { sources: [{ serviceAccountToken: { path: 'token' } }] } })),
      'of Secrets only hostKey and controllerKey, and that of metrics.tls',
    ],
    [
      'the root of the node',
      () => run(mount({ hostPath: { path: '/', type: 'Directory' } })),
      'mounts of its node what',
    ],
    [
      'a directory beside the permitted ones',
      () => run(mount({ hostPath: { path: '/var/lib/weird', type: 'DirectoryOrCreate' } })),
      'mounts of its node what',
    ],
    [
      'all devices',
      () => run(mount({ hostPath: { path: '/dev', type: 'Directory' } })),
      'mounts of its node what',
    ],
    [
      "another's ServiceAccount",
      () =>
        stolen.mergePatch(objectPath(serviceAccounts, { namespace: 'kube-system', name: 'cni' }), {
          secrets: [],
        }),
      'named weir-target-… only',
    ],
    [
      "deleting another's ServiceAccount",
      () => stolen.delete(objectPath(serviceAccounts, { namespace: 'kube-system', name: 'cni' })),
      'named weir-target-… only',
    ],
    [
      "deleting another's pod",
      () => stolen.delete(objectPath(pods, { namespace: 'kube-system', name: 'cni' })),
      'may delete pods of dataplanes',
    ],
    [
      'a role that belongs to no target',
      () => {
        const role = { namespace: NAMESPACE, name: 'weir-target-loose' };
        const object = {
          apiVersion: 'rbac.authorization.k8s.io/v1',
          kind: 'Role',
          metadata: role,
          rules: [],
        };
        return stolen.apply(objectPath(RESOURCES.roles, role), object, 'weir-operator');
      },
      'belong to an NvmeofTarget only',
    ],
  ];
  it.each(attacks)('refuses %s, and says why', async (_, attempt, message) => {
    const refusal = await attempt().then(
      () => undefined,
      (error: unknown) => error,
    );
    expect((refusal as ApiError | undefined)?.message).toContain(message);
    expect(refusal).toMatchObject({ status: 403 });
  });
});
