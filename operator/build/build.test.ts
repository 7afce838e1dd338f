import { describe, expect, it } from 'vitest';
import { nvmeofTargetNodeSpecSchema } from '../../crds/nvmeof-target-node.ts';
import { derivedNamespaceUuid } from '../../crds/uuid.ts';
import { SAMPLE_SETTINGS, sampleSpec } from '../testing/samples.ts';
import { buildDaemonSet, TEMPLATE_HASH_ANNOTATION } from './daemon-set.ts';
import { buildPodDisruptionBudget } from './pod-disruption-budget.ts';
import { buildResourceClaimTemplate } from './resource-claim-template.ts';
import { buildRole } from './role.ts';
import { buildRoleBinding } from './role-binding.ts';
import { buildServiceAccount } from './service-account.ts';
import { buildTargetNode } from './target-node.ts';

const target = { namespace: 'storage', name: 'fast', uid: 'uid-fast' };
const ids = { first: 1, last: 511 };

interface Probe {
  httpGet: { scheme?: string };
}

interface PodTemplate {
  metadata: { labels: Record<string, string>; annotations: Record<string, string> };
  spec: {
    hostNetwork?: boolean;
    dnsPolicy: string;
    terminationGracePeriodSeconds: number;
    priorityClassName?: string;
    resourceClaims?: object[];
    containers: [
      {
        args: string[];
        env: { name: string; value?: string }[];
        securityContext: Record<string, unknown>;
        volumeMounts: { mountPath: string; name: string }[];
        volumeDevices?: { devicePath: string; name: string }[];
        resources: { requests: Record<string, string>; limits: Record<string, string>; claims?: object[] };
        ports: { containerPort: number; hostPort?: number }[];
        livenessProbe: Probe;
        readinessProbe: Probe;
        startupProbe: Probe;
      },
    ];
    volumes: {
      name: string;
      hostPath?: { path: string; type: string };
      emptyDir?: object;
      persistentVolumeClaim?: { claimName: string; readOnly?: boolean };
    }[];
  };
}

function template(change: object = {}, settings: Partial<typeof SAMPLE_SETTINGS> = {}): PodTemplate {
  const built = buildDaemonSet(target, sampleSpec(change), { ...SAMPLE_SETTINGS, ...settings }, 9810);
  return (built['spec'] as { template: PodTemplate }).template;
}

describe('every child', () => {
  it('is owned by its target and says to whom it belongs', () => {
    const children = [
      buildServiceAccount(target),
      buildRole(target, ['fast-node-a']),
      buildRoleBinding(target),
      buildPodDisruptionBudget(target, 3),
      buildResourceClaimTemplate(target, 'rdma.example'),
      buildDaemonSet(target, sampleSpec(), SAMPLE_SETTINGS, 9810),
      buildTargetNode(target, sampleSpec(), 'nqn.2026-11.dev.weir:fast', 'node-a', ids, new Map()),
    ];
    for (const { metadata } of children) {
      expect(metadata.namespace).toBe('storage');
      expect(metadata.labels['weir.dev/target']).toBe('fast');
      expect(metadata.ownerReferences).toMatchObject([
        { kind: 'NvmeofTarget', uid: 'uid-fast', controller: true },
      ]);
    }
  });
});

describe('the disruption budget of a target', () => {
  it('lets one pod go at a time, of one node too, and selects the pods of the DaemonSet', () => {
    const of = (nodes: number) => buildPodDisruptionBudget(target, nodes)['spec'] as Record<string, unknown>;
    expect([0, 1, 2, 5].map((nodes) => of(nodes)['minAvailable'])).toEqual([0, 0, 1, 4]);
    expect(of(2)).not.toHaveProperty('maxUnavailable');
    const { selector } = of(2) as { selector: { matchLabels: Record<string, string> } };
    expect(template().metadata.labels).toMatchObject(selector.matchLabels);
  });
});

describe("a dataplane's pod", () => {
  it('asks for no more than it may have, which the API server would refuse', () => {
    const [container] = template({ resources: { limits: { memory: '200Mi', cpu: '2' } } }).spec.containers;
    expect(container.resources.requests).toMatchObject({ memory: '200Mi', cpu: '100m' });
    const requests = { cpu: '1', memory: '1Gi' };
    const [other] = template({ resources: { requests: { cpu: '2' } } }, { requests }).spec.containers;
    expect(other.resources.requests).toMatchObject({ cpu: '2', memory: '1Gi' });
  });

  it('has one capability, nothing writable and no privilege by default', () => {
    const [container] = template().spec.containers;
    expect(container.securityContext).toEqual({
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      runAsUser: 0,
      capabilities: { drop: ['ALL'], add: ['IPC_LOCK'] },
      seccompProfile: { type: 'RuntimeDefault' },
    });
  });

  it('can have a seccomp profile of the node', () => {
    const [container] = template({}, { seccompProfile: 'Localhost/profiles/weir.json' }).spec.containers;
    expect(container.securityContext['seccompProfile']).toEqual({
      type: 'Localhost',
      localhostProfile: 'profiles/weir.json',
    });
  });

  it('asks a device plugin for its devices, and then mounts none itself', () => {
    const { containers, volumes } = template().spec;
    expect(containers[0].resources.limits['rdma/shared']).toBe('1');
    expect(volumes.map(({ hostPath }) => hostPath?.path)).toEqual(['/var/lib/weir']);
  });

  it('claims a device of a class, by a template of its own for each class, and mounts none itself', () => {
    const access = { deviceAccess: 'ResourceClaim', deviceClass: 'rdma.example' } as const;
    const { containers, volumes, resourceClaims } = template({}, access).spec;
    const made = buildResourceClaimTemplate(target, 'rdma.example');
    expect(resourceClaims).toEqual([{ name: 'rdma', resourceClaimTemplateName: made.metadata.name }]);
    expect(containers[0].resources).toMatchObject({ claims: [{ name: 'rdma' }], limits: {} });
    expect(volumes.map(({ hostPath }) => hostPath?.path)).toEqual(['/var/lib/weir']);
    expect(buildResourceClaimTemplate(target, 'other').metadata.name).not.toBe(made.metadata.name);
    expect(template().spec).not.toHaveProperty('resourceClaims');
  });

  it.each(['HostDevices', 'Privileged'] as const)(
    'mounts the devices of the node with %s',
    (deviceAccess) => {
      const { containers, volumes } = template({}, { deviceAccess }).spec;
      expect(volumes.map(({ hostPath }) => hostPath)).toContainEqual({
        path: '/dev/infiniband',
        type: 'Directory',
      });
      expect(containers[0].resources.limits).toEqual({});
      expect(containers[0].securityContext['privileged']).toBe(deviceAccess === 'Privileged');
    },
  );

  it('mounts the directory of each file once and each block device, at the same path', () => {
    const namespaces = [
      { nsid: 1, backend: { file: { path: '/var/lib/weir/a.img', size: '1Gi' } } },
      { nsid: 2, backend: { file: { path: '/var/lib/weir/b.img', size: '1Gi' } } },
      { nsid: 3, backend: { blockDevice: { path: '/dev/vdb' } } },
    ];
    const { containers, volumes } = template({ namespaces }).spec;
    expect(volumes.map(({ hostPath }) => hostPath)).toEqual([
      { path: '/var/lib/weir', type: 'DirectoryOrCreate' },
      { path: '/dev/vdb', type: 'BlockDevice' },
    ]);
    expect(containers[0].volumeMounts.map(({ mountPath }) => mountPath)).toEqual([
      '/var/lib/weir',
      '/dev/vdb',
    ]);
  });

  const claims = [
    { nsid: 1, backend: { persistentVolumeClaim: { claimName: 'raw' } } },
    { nsid: 2, readOnly: true, backend: { persistentVolumeClaim: { claimName: 'raw' } } },
    { nsid: 3, backend: { persistentVolumeClaim: { claimName: 'files', file: { size: '1Gi' } } } },
    { nsid: 4, readOnly: true, backend: { persistentVolumeClaim: { claimName: 'golden' } } },
  ];

  it('has each claim once: as a device, or mounted; for reading only where nobody writes', () => {
    const { containers, volumes } = template({ namespaces: claims }).spec;
    const names = new Map(
      volumes.map(({ name, persistentVolumeClaim }) => [persistentVolumeClaim?.claimName, name]),
    );
    expect(volumes.map(({ persistentVolumeClaim }) => persistentVolumeClaim)).toEqual([
      { claimName: 'files' },
      { claimName: 'golden', readOnly: true },
      { claimName: 'raw' },
    ]);
    expect(containers[0].volumeMounts).toEqual([
      { name: names.get('files'), mountPath: '/var/lib/weir-claims/files' },
    ]);
    expect(containers[0].volumeDevices).toEqual([
      { name: names.get('golden'), devicePath: '/dev/weir/golden' },
      { name: names.get('raw'), devicePath: '/dev/weir/raw' },
    ]);
  });

  it('has no list of devices where it has none, which would replace the pods of an earlier release', () => {
    expect(template().spec.containers[0]).not.toHaveProperty('volumeDevices');
  });

  it('may re-create soft RDMA devices only if the target says so', () => {
    for (const [recreateSoftDevice, asked] of [
      ['Never', false],
      ['WhenManagementQueuePairDead', true],
    ] as const) {
      const { containers, volumes } = template({ link: { recreateSoftDevice } }).spec;
      const capabilities = containers[0].securityContext['capabilities'] as { add: string[] };
      expect(capabilities.add.includes('NET_ADMIN')).toBe(asked);
      expect(containers[0].args.includes('--state-directory')).toBe(asked);
      const state = volumes.find(({ emptyDir }) => emptyDir !== undefined);
      expect(state !== undefined).toBe(asked);
      const mount = containers[0].volumeMounts.find(({ name }) => name === state?.name);
      expect(mount?.mountPath).toBe(asked ? containers[0].args.at(-1) : undefined);
    }
  });

  it('learns its node, its target and its port', () => {
    const { hostNetwork, containers } = template().spec;
    expect(hostNetwork).toBe(true);
    expect(containers[0].args).toContain('0.0.0.0:9810');
    expect(containers[0].ports[0]?.containerPort).toBe(9810);
    expect(containers[0].env).toContainEqual({ name: 'TARGET', value: 'storage/fast' });
  });

  it('is off the host network on demand, with the interfaces that its annotations ask for', () => {
    const on = (...networks: string[]) => ({
      network: {
        mode: 'Pod',
        annotations: Object.fromEntries(
          networks.map((name) => [`k8s.v1.cni.cncf.io/${name}`, 'storage-net']),
        ),
      },
    });
    const { metadata, spec } = template(on('networks'));
    expect(spec.hostNetwork).toBeUndefined();
    expect(spec.dnsPolicy).toBe('ClusterFirst');
    expect(spec.containers[0].ports).toEqual([{ name: 'metrics', containerPort: 9810, protocol: 'TCP' }]);
    expect(metadata.annotations).toMatchObject({ 'k8s.v1.cni.cncf.io/networks': 'storage-net' });
    const daemonSet = buildDaemonSet(target, sampleSpec(on()), SAMPLE_SETTINGS, 9810);
    expect(daemonSet.metadata).not.toHaveProperty('annotations');
    const hashes = [{}, on(), on('networks'), on('networks', 'more'), on('more', 'networks')].map(
      (change) => template(change).metadata.annotations[TEMPLATE_HASH_ANNOTATION],
    );
    expect(new Set(hashes).size).toBe(4);
    expect(hashes[3]).toBe(hashes[4]);
  });

  it('gets more time to leave than its drain may take', () => {
    for (const drainTimeoutSeconds of [15, 60, 61, 300]) {
      const grace = template({ link: { drainTimeoutSeconds } }).spec.terminationGracePeriodSeconds;
      expect(grace).toBeGreaterThan(drainTimeoutSeconds);
    }
  });

  it('has the priority of its target, else that of the settings', () => {
    expect(template().spec.priorityClassName).toBe('system-node-critical');
    expect(template({ priorityClassName: 'mine' }).spec.priorityClassName).toBe('mine');
    expect('priorityClassName' in template({}, { priorityClassName: undefined }).spec).toBe(false);
  });

  it('serves its endpoints over HTTPS with the certificate of a Secret, and asks for tokens, if so set', () => {
    const open = template().spec;
    expect(open.containers[0].args.join(' ')).not.toContain('--metrics-tls');
    expect(open.containers[0].args).not.toContain('--metrics-authentication');
    expect(open.containers[0].livenessProbe.httpGet.scheme).toBeUndefined();
    const { containers, volumes } = template(
      {},
      { metricsTlsSecret: 'tls', metricsAuthentication: true },
    ).spec;
    const [{ args, volumeMounts, livenessProbe, readinessProbe, startupProbe }] = containers;
    expect(args).toContain('--metrics-authentication');
    const directory = args[args.indexOf('--metrics-tls-directory') + 1];
    const mount = volumeMounts.find(({ mountPath }) => mountPath === directory);
    expect(volumes.find(({ name }) => name === mount?.name)).toMatchObject({ secret: { secretName: 'tls' } });
    for (const probe of [livenessProbe, readinessProbe, startupProbe])
      expect(probe.httpGet.scheme).toBe('HTTPS');
  });

  it('has the two keys of each Secret that its hosts authenticate with, mounted read-only, and starts without them', () => {
    expect(template().spec.containers[0].args).not.toContain('--secrets-directory');
    const host = (name: string, secret: string) => ({
      nqn: `nqn.2026-11.a:${name}`,
      dhchap: { secretRef: { name: secret } },
    });
    const hosts = [host('a', 'host-b'), host('b', 'host-a'), host('c', 'host-b'), { nqn: 'nqn.2026-11.a:d' }];
    const { containers, volumes } = template({ access: { hosts } }).spec;
    const [{ args, volumeMounts }] = containers;
    const directory = args[args.indexOf('--secrets-directory') + 1];
    const mounted = volumes.flatMap((volume) => ('secret' in volume ? [volume] : []));
    const keys = ['hostKey', 'controllerKey'].map((key) => ({ key, path: key }));
    expect(mounted).toMatchObject([
      { secret: { secretName: 'host-a', items: keys, optional: true } },
      { secret: { secretName: 'host-b', items: keys, optional: true } },
    ]);
    for (const [index, secret] of ['host-a', 'host-b'].entries()) {
      const mount = { name: mounted[index]?.name, mountPath: `${directory}/${secret}`, readOnly: true };
      expect(volumeMounts).toContainEqual(mount);
    }
  });

  const hash = (change: object = {}) => template(change).metadata.annotations[TEMPLATE_HASH_ANNOTATION];
  it('is not replaced for what the dataplane takes up live', () => {
    const namespaces = [{ nsid: 9, backend: { file: { path: '/var/lib/weir/other.img', size: '2Gi' } } }];
    expect(hash({ namespaces })).toBe(hash());
    expect(hash({ link: { drainTimeoutSeconds: 30 }, access: { policy: 'AnyHost' } })).toBe(hash());
    expect(hash({ polling: { mode: 'Busy', cores: 4 }, deletionPolicy: 'Drain' })).toBe(hash());
  });

  it('is replaced for what only a new pod can have', () => {
    const namespaces = [{ nsid: 9, backend: { file: { path: '/var/lib/weir/sub/other.img', size: '2Gi' } } }];
    expect(hash({ namespaces })).not.toBe(hash());
    expect(hash({ resources: { requests: { cpu: '2' } } })).not.toBe(hash());
  });
});

describe("a dataplane's role", () => {
  it('names the objects it covers, and covers none when there are none', () => {
    const rules = buildRole(target, ['fast-b', 'fast-a'])['rules'] as {
      resourceNames?: string[];
      verbs: string[];
    }[];
    expect(rules[0]).toMatchObject({ resourceNames: ['fast-a', 'fast-b'], verbs: ['get', 'list', 'watch'] });
    expect(rules[1]).toMatchObject({ resources: ['nvmeoftargetnodes/status'], verbs: ['patch'] });
    expect(buildRole(target, [])['rules']).toHaveLength(1);
  });
});

describe('a node object', () => {
  const capacities = new Map([['raw', 4096]]);
  const spec = (change: object = {}, nqn = 'nqn.2026-11.dev.weir:fast') =>
    nvmeofTargetNodeSpecSchema.parse(
      buildTargetNode(target, sampleSpec(change), nqn, 'node-a', ids, capacities)['spec'],
    );

  it('is complete for the core: sizes in bytes, UUIDs derived', () => {
    const [subsystem] = spec().subsystems;
    expect(subsystem?.controllerIDs).toEqual(ids);
    expect(subsystem?.namespaces[0]).toMatchObject({
      uuid: derivedNamespaceUuid('nqn.2026-11.dev.weir:fast', 1),
      backend: { file: { path: '/var/lib/weir/fast.img', sizeBytes: 1073741824 } },
    });
    expect(subsystem?.namespaces[1]?.backend).toEqual({ memory: { sizeBytes: 268435456 } });
  });

  it('has an NQN and UUIDs of its own with scope PerNode', () => {
    const [subsystem] = spec({ scope: 'PerNode' }).subsystems;
    expect(subsystem?.nqn).toBe('nqn.2026-11.dev.weir:fast:node-a');
    expect(subsystem?.namespaces[0]?.uuid).toBe(derivedNamespaceUuid('nqn.2026-11.dev.weir:fast:node-a', 1));
  });

  it('has claims where its container finds them, and tells how large the device should be by now', () => {
    const namespaces = [
      { nsid: 1, backend: { persistentVolumeClaim: { claimName: 'raw' } } },
      { nsid: 2, backend: { persistentVolumeClaim: { claimName: 'late' } } },
      { nsid: 3, backend: { persistentVolumeClaim: { claimName: 'files', file: { size: '1Gi' } } } },
    ];
    expect(spec({ namespaces }).subsystems[0]?.namespaces.map(({ backend }) => backend)).toEqual([
      { blockDevice: { path: '/dev/weir/raw', expectedSizeBytes: 4096 } },
      { blockDevice: { path: '/dev/weir/late' } },
      { file: { path: '/var/lib/weir-claims/files/namespace.img', sizeBytes: 1073741824 } },
    ]);
  });

  it('keeps a UUID that was given', () => {
    const uuid = '6b1f7f0e-2a52-4f0f-8f2f-0e5b8f3c1a10';
    const namespaces = [{ nsid: 1, uuid, backend: { blockDevice: { path: '/dev/vdb' } } }];
    expect(spec({ namespaces }).subsystems[0]?.namespaces[0]?.uuid).toBe(uuid);
  });
});
