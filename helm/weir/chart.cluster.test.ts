import { execFile } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { buildRole } from '../../operator/build/role.ts';
import { buildRoleBinding } from '../../operator/build/role-binding.ts';
import { parseOptions } from '../../operator/options.ts';
import { grafanaModel, queriesOf, withEverythingChosen } from '../dashboards/dashboard.ts';
import { DASHBOARDS } from '../dashboards/files.ts';
import { type AlertRule, defaultRules, readAlertFiles, testRules } from './tests/alert-rules.ts';
import { CHART, Helm, type Manifest } from './tests/helm.ts';
import { grantedPermissions, type RbacManifest, reviewedPermissions } from './tests/permissions.ts';

const execute = promisify(execFile);
const monitors = ['ServiceMonitor', 'PodMonitor', 'PrometheusRule'];
const monitoring = monitors.flatMap((kind) => ['--api-versions', `monitoring.coreos.com/v1/${kind}`]);

const uidOf = (model: unknown): string => (model as { uid: string }).uid;

let helm: Helm;
beforeAll(async () => {
  helm = await Helm.open();
});
afterAll(() => helm.close());

const template = (...args: string[]): Promise<Manifest[]> => helm.template(args);

const find = (manifests: Manifest[], kind: string) => manifests.find((manifest) => manifest.kind === kind);
const operatorArgs = (manifests: Manifest[]) =>
  find(manifests, 'Deployment')?.['spec'].template.spec.containers[0].args as string[];

// biome-ignore lint/suspicious/noExplicitAny: parts of a manifest; expectations check their fields.
type Part = any;
const podSpec = (manifests: Manifest[]): Part => find(manifests, 'Deployment')?.['spec'].template.spec;
const container = (manifests: Manifest[]): Part => podSpec(manifests).containers[0];
const operatorImage = (manifests: Manifest[]): unknown => container(manifests).image;
const dataplane = (manifests: Manifest[]) => parseOptions(operatorArgs(manifests)).dataplane;
/** Endpoints of the ServiceMonitor and of the PodMonitor. */
const endpoints = (manifests: Manifest[]): Part[] => [
  find(manifests, 'ServiceMonitor')?.['spec'].endpoints[0],
  find(manifests, 'PodMonitor')?.['spec'].podMetricsEndpoints[0],
];
const OPERATOR_LABELS = { 'app.kubernetes.io/name': 'weir-operator', 'app.kubernetes.io/instance': 'weir' };
const has = (kind: string) => (manifests: Manifest[]) => find(manifests, kind) !== undefined;

describe('the chart', () => {
  it('passes lint', async () => {
    expect(await helm.run('lint', '--strict', CHART)).toContain('0 chart(s) failed');
  });

  it('has the version of the package', async () => {
    const text = (path: string) => readFile(join(CHART, '../..', path), 'utf8');
    const { version } = JSON.parse(await text('package.json')) as { version: string };
    const meta = await text('helm/weir/Chart.yaml');
    expect(meta).toContain(`\nversion: ${version}\n`);
    expect(meta).toContain(`\nappVersion: ${version}\n`);
    expect(JSON.parse(await text('package-lock.json'))).toMatchObject({
      version,
      packages: { '': { version } },
    });
    // Hosts see the core's version as the firmware revision.
    expect(await text('native/Cargo.toml')).toContain(`\nversion = "${version}"\n`);
    const pages = [
      'README.md',
      ...(await readdir(join(CHART, '../../docs'), { recursive: true })).map((page) => `docs/${page}`),
    ];
    const named = await Promise.all(
      pages
        .filter((page) => page.endsWith('.md'))
        .map(async (page) =>
          [...(await text(page)).matchAll(/image\.tag=([0-9.]*[0-9])/g)].map(([, tag]) => tag),
        ),
    );
    expect(new Set(named.flat())).toEqual(new Set([version]));
  });

  it('starts an operator that understands its command line, unprivileged, two replicas of it', async () => {
    const manifests = await template();
    const deployment = find(manifests, 'Deployment')?.['spec'];
    expect(deployment.replicas).toBe(2);
    expect(deployment.template.spec.securityContext).toMatchObject({ runAsNonRoot: true });
    expect(deployment.template.spec.containers[0].securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    expect(parseOptions(operatorArgs(manifests))).toMatchObject({
      leaderElect: true,
      dataplane: {
        image: 'weir:0.2.0',
        deviceAccess: 'DevicePlugin',
        portRange: { first: 9810, last: 9899 },
        fileDirectories: ['/var/lib/weir'],
        deviceDirectories: ['/dev'],
      },
    });
    expect(find(manifests, 'PodDisruptionBudget')).toBeDefined();
    expect(find(manifests, 'ValidatingAdmissionPolicy')).toBeDefined();
  });

  it('grants what docs/reference/permissions.md says, and nothing else', async () => {
    const target = { namespace: 'NAMESPACE', name: 'TARGET', uid: 'uid' };
    const dataplane = [buildRole(target, ['TARGET-NODE']), buildRoleBinding(target)];
    const ofTests = (manifest: Manifest) => manifest.metadata.annotations?.['helm.sh/hook'] === 'test';
    const manifests = await template();
    const granted = grantedPermissions([
      ...manifests.filter((manifest) => !ofTests(manifest)),
      ...(dataplane as unknown as RbacManifest[]),
      ...manifests.filter(ofTests),
    ]);
    const page = await readFile(join(CHART, '../../docs/reference/permissions.md'), 'utf8');
    const reviewed = reviewedPermissions(page);
    expect(granted).toEqual(reviewed.map(({ why: _, ...permission }) => permission));
    for (const { resources, why } of reviewed) expect(why.length, resources).toBeGreaterThan(5);
    for (const { verbs, apiGroups, resources } of granted) {
      expect(`${verbs} ${apiGroups} ${resources}`).not.toContain('*');
      expect(resources).not.toContain('secrets');
    }
  });

  it('keeps the CRDs when it is uninstalled', async () => {
    const crds = (await template()).filter(({ kind }) => kind === 'CustomResourceDefinition');
    expect(crds).toHaveLength(2);
    for (const { metadata } of crds) expect(metadata.annotations?.['helm.sh/resource-policy']).toBe('keep');
  });

  it('makes monitors and rules only where their kinds exist', async () => {
    const kinds = new Set((await template()).map(({ kind }) => kind));
    expect(kinds.has('ServiceMonitor') || kinds.has('PodMonitor') || kinds.has('PrometheusRule')).toBe(false);
    const manifests = await template(...monitoring, '--set', 'monitoring.labels.release=prometheus');
    for (const kind of ['ServiceMonitor', 'PodMonitor', 'PrometheusRule']) {
      expect(find(manifests, kind)?.metadata).toMatchObject({ labels: { release: 'prometheus' } });
    }
  });

  const rules = async (...args: string[]): Promise<AlertRule[]> =>
    find(await template(...monitoring, ...args), 'PrometheusRule')?.['spec'].groups[0].rules;

  it('has the alerts of its files', async () => {
    expect(await rules()).toEqual(defaultRules(await readAlertFiles()));
  });

  it('has alerts that Prometheus understands, and that do what their tests say', async () => {
    const spec = find(await template(...monitoring), 'PrometheusRule')?.['spec'];
    const file = join(helm.home, 'rules.json');
    await writeFile(file, JSON.stringify(spec));
    const promtool = await execute('promtool', ['check', 'rules', file], { timeout: 30_000 });
    expect(`${promtool.stdout}${promtool.stderr}`).toContain('SUCCESS');
    expect(await testRules(await rules(), [...(await readAlertFiles()).keys()])).toContain('SUCCESS');
  });

  it('has dashboards that Grafana can load, whose queries Prometheus understands', async () => {
    const maps = (await template()).filter(({ kind }) => kind === 'ConfigMap');
    const models = maps.flatMap(({ data }) => Object.values(data as Record<string, string>));
    expect(models.map((text) => JSON.parse(text) as unknown)).toEqual(
      DASHBOARDS.map(grafanaModel).toSorted((a, b) => uidOf(a).localeCompare(uidOf(b))),
    );
    const rules = DASHBOARDS.flatMap((dashboard) =>
      queriesOf(dashboard).map(({ expr }, index) => ({
        record: `query_${index}`,
        labels: { dashboard: dashboard.uid },
        expr: withEverythingChosen(expr, dashboard, '1m'),
      })),
    );
    const file = join(helm.home, 'queries.json');
    await writeFile(file, JSON.stringify({ groups: [{ name: 'queries', rules }] }));
    const promtool = await execute('promtool', ['check', 'rules', file], { timeout: 30_000 });
    expect(`${promtool.stdout}${promtool.stderr}`).toContain(`SUCCESS: ${rules.length} rules found`);
  });

  it('lets its alerts be changed one by one', async () => {
    const changed = await rules(
      ...['--set', 'alerts.runbookBaseURL=https://wiki.example/weir/'],
      ...['--set', 'alerts.rules.WeirTargetOpenToAnyHost.enabled=false'],
      ...[
        '--set',
        'alerts.rules.WeirLinkFlapping.window=30m,alerts.rules.WeirLinkFlapping.severity=critical',
      ],
      ...['--set', 'alerts.rules.WeirLinkDown.for=0s'],
    );
    const named = (name: string) => changed.find(({ alert }) => alert === name);
    expect(named('WeirTargetOpenToAnyHost')).toBeUndefined();
    expect(named('WeirLinkDown')).toMatchObject({
      for: '0s',
      annotations: { runbook_url: 'https://wiki.example/weir/WeirLinkDown.md' },
    });
    expect(named('WeirLinkFlapping')).toMatchObject({ for: '1m', labels: { severity: 'critical' } });
    expect(named('WeirLinkFlapping')?.expr).toContain('[30m]');
    expect(named('WeirLinkFlapping')?.expr).not.toContain('[10m]');
  });

  const policyText = (all: Manifest[]) =>
    all
      .filter(({ kind }) => kind === 'ValidatingAdmissionPolicy')
      .map(({ spec }) => spec.validations.map((one: Part) => `${one.expression} ${one.message}`).join(' '))
      .join(' ');

  /** Every value: something else than the default, and where that shows. */
  const effects: readonly [string, readonly string[], (manifests: Manifest[]) => unknown, unknown][] = [
    [
      'fullnameOverride',
      ['fullnameOverride=storage'],
      (all) => find(all, 'Deployment')?.metadata.name,
      'storage',
    ],
    ['image.repository', ['image.repository=r.example/w'], operatorImage, 'r.example/w:0.2.0'],
    ['image.tag', ['image.tag=1.2'], operatorImage, 'weir:1.2'],
    [
      'image.digest',
      [`image.digest=sha256:${'a'.repeat(64)}`, 'image.tag=1.2'],
      operatorImage,
      `weir@sha256:${'a'.repeat(64)}`,
    ],
    ['image.pullPolicy', ['image.pullPolicy=Always'], (all) => container(all).imagePullPolicy, 'Always'],
    [
      'imagePullSecrets',
      ['imagePullSecrets={one,two}'],
      (all) => podSpec(all).imagePullSecrets,
      [{ name: 'one' }, { name: 'two' }],
    ],
    ['operator.replicas', ['operator.replicas=3'], (all) => find(all, 'Deployment')?.['spec'].replicas, 3],
    [
      'operator.logLevel',
      ['operator.logLevel=debug'],
      (all) => parseOptions(operatorArgs(all)).logLevel,
      'debug',
    ],
    [
      'operator.resources',
      ['operator.resources.limits.memory=1Gi'],
      (all) => container(all).resources,
      { requests: { cpu: '50m', memory: '128Mi' }, limits: { memory: '1Gi' } },
    ],
    [
      'operator.nodeSelector',
      ['operator.nodeSelector.pool=infra'],
      (all) => podSpec(all).nodeSelector,
      { pool: 'infra' },
    ],
    [
      'operator.tolerations',
      ['operator.tolerations[0].operator=Exists'],
      (all) => podSpec(all).tolerations,
      [{ operator: 'Exists' }],
    ],
    [
      'operator.affinity',
      ['operator.affinity.podAntiAffinity.x=y'],
      (all) => podSpec(all).affinity,
      { podAntiAffinity: { x: 'y' } },
    ],
    [
      'operator.priorityClassName',
      ['operator.priorityClassName=system-cluster-critical'],
      (all) => podSpec(all).priorityClassName,
      'system-cluster-critical',
    ],
    [
      'operator.podAnnotations',
      ['operator.podAnnotations.a=b'],
      (all) => find(all, 'Deployment')?.['spec'].template.metadata.annotations,
      { a: 'b' },
    ],
    [
      'operator.podDisruptionBudget.enabled',
      ['operator.podDisruptionBudget.enabled=false'],
      has('PodDisruptionBudget'),
      false,
    ],
    [
      'operator.metricsPort',
      ['operator.metricsPort=9090'],
      (all) => [
        container(all).ports[0].containerPort,
        find(all, 'Service')?.['spec'].ports[0].port,
        parseOptions(operatorArgs(all)).metricsAddress,
      ],
      [9090, 9090, '0.0.0.0:9090'],
    ],
    [
      'dataplane.deviceAccess',
      ['dataplane.deviceAccess=HostDevices'],
      (all) => dataplane(all).deviceAccess,
      'HostDevices',
    ],
    [
      'dataplane.deviceResource',
      ['dataplane.deviceResource=rdma/hca'],
      (all) => dataplane(all).deviceResource,
      'rdma/hca',
    ],
    [
      'dataplane.deviceClassName',
      ['dataplane.deviceAccess=ResourceClaim', 'dataplane.deviceClassName=rdma.example'],
      (all) => [
        dataplane(all).deviceClass,
        find(all, 'ClusterRole')?.['rules'].find((rule: Part) => rule.apiGroups[0] === 'resource.k8s.io')
          ?.verbs,
        policyText(all).match(/devices of the class [a-z.]+|startsWith\(object\.metadata\.name \+ '-'\)/g),
      ],
      [
        'rdma.example',
        ['list', 'watch', 'delete', 'get', 'create', 'patch'],
        ['devices of the class rdma.example', "startsWith(object.metadata.name + '-')"],
      ],
    ],
    [
      'dataplane.resources',
      ['dataplane.resources.requests.cpu=2', 'dataplane.resources.requests.memory=1Gi'],
      (all) => dataplane(all).requests,
      { cpu: '2', memory: '1Gi' },
    ],
    [
      'operator.topologySpreadConstraints',
      ['operator.topologySpreadConstraints[0].topologyKey=zone'],
      (all) => podSpec(all).topologySpreadConstraints,
      [{ topologyKey: 'zone' }],
    ],
    [
      'dataplane.seccompProfile',
      ['dataplane.seccompProfile=Unconfined'],
      (all) => dataplane(all).seccompProfile,
      'Unconfined',
    ],
    ['dataplane.logLevel', ['dataplane.logLevel=trace'], (all) => dataplane(all).logLevel, 'trace'],
    [
      'dataplane.portRange',
      ['dataplane.portRange.first=20000', 'dataplane.portRange.last=20010'],
      (all) => dataplane(all).portRange,
      { first: 20000, last: 20010 },
    ],
    [
      'dataplane.fileDirectories',
      ['dataplane.fileDirectories={/srv}'],
      (all) => dataplane(all).fileDirectories,
      ['/srv'],
    ],
    [
      'dataplane.deviceDirectories',
      ['dataplane.deviceDirectories={/dev/disk}'],
      (all) => dataplane(all).deviceDirectories,
      ['/dev/disk'],
    ],
    [
      'dataplane.priorityClassName',
      ['dataplane.priorityClassName=storage'],
      (all) => dataplane(all).priorityClassName,
      'storage',
    ],
    [
      'metrics.authentication.enabled',
      [
        'metrics.authentication.enabled=true',
        'metrics.tls.secretName=tls',
        'monitoring.bearerTokenSecret.name=token',
      ],
      (all) => [
        dataplane(all).metricsAuthentication,
        all.find(({ metadata }) => metadata.name.endsWith('-metrics-reader'))?.['rules'],
      ],
      [true, [{ nonResourceURLs: ['/metrics'], verbs: ['get'] }]],
    ],
    [
      'metrics.tls.secretName',
      ['metrics.tls.secretName=tls'],
      (all) => [
        parseOptions(operatorArgs(all)).metricsTlsDirectory,
        container(all).volumeMounts,
        podSpec(all).volumes,
        ['startupProbe', 'livenessProbe', 'readinessProbe'].map(
          (name) => container(all)[name].httpGet.scheme,
        ),
        dataplane(all).metricsTlsSecret,
        endpoints(all).map(({ scheme, tlsConfig }) => [scheme, tlsConfig]),
      ],
      [
        '/etc/weir/metrics-tls',
        [{ name: 'metrics-tls', mountPath: '/etc/weir/metrics-tls', readOnly: true }],
        [{ name: 'metrics-tls', secret: { secretName: 'tls' } }],
        ['HTTPS', 'HTTPS', 'HTTPS'],
        'tls',
        Array.from({ length: 2 }, () => [
          'https',
          {
            ca: { secret: { name: 'tls', key: 'ca.crt' } },
            serverName: 'weir-operator-metrics.weir-system.svc',
          },
        ]),
      ],
    ],
    [
      'metrics.tls.serverName',
      ['metrics.tls.secretName=tls', 'metrics.tls.serverName=weir.example'],
      (all) => endpoints(all).map(({ tlsConfig }) => tlsConfig?.serverName),
      ['weir.example', 'weir.example'],
    ],
    [
      'monitoring.bearerTokenSecret',
      [
        'metrics.authentication.enabled=true',
        'metrics.tls.secretName=tls',
        'monitoring.bearerTokenSecret.name=prometheus',
        'monitoring.bearerTokenSecret.key=t',
      ],
      (all) => endpoints(all).map(({ authorization }) => authorization),
      Array.from({ length: 2 }, () => ({ credentials: { name: 'prometheus', key: 't' } })),
    ],
    [
      'networkPolicy.enabled',
      ['networkPolicy.enabled=true'],
      (all) => find(all, 'NetworkPolicy')?.['spec'],
      {
        podSelector: { matchLabels: OPERATOR_LABELS },
        policyTypes: ['Ingress', 'Egress'],
        ingress: [{ ports: [{ port: 'metrics', protocol: 'TCP' }] }],
        egress: [
          {
            ports: [
              { port: 443, protocol: 'TCP' },
              { port: 6443, protocol: 'TCP' },
            ],
          },
        ],
      },
    ],
    [
      'networkPolicy.metricsFrom',
      ['networkPolicy.enabled=true', 'networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus'],
      (all) => find(all, 'NetworkPolicy')?.['spec'].ingress[0].from,
      [{ podSelector: { matchLabels: { app: 'prometheus' } } }],
    ],
    [
      'networkPolicy.apiServerPorts',
      ['networkPolicy.enabled=true', 'networkPolicy.apiServerPorts={8443}'],
      (all) => find(all, 'NetworkPolicy')?.['spec'].egress[0].ports,
      [{ port: 8443, protocol: 'TCP' }],
    ],
    [
      'test.targets',
      ['test.targets={storage/fast}'],
      (all) => [
        find(all, 'Pod')?.['spec'].containers[0].args.at(-1),
        all.find(({ metadata, kind }) => kind === 'Role' && metadata['namespace' as never] === 'storage')?.[
          'rules'
        ],
      ],
      [
        '--target=storage/fast',
        [
          { apiGroups: ['weir.dev'], resources: ['nvmeoftargets'], resourceNames: ['fast'], verbs: ['get'] },
          { apiGroups: ['weir.dev'], resources: ['nvmeoftargetnodes'], verbs: ['list'] },
        ],
      ],
    ],
    [
      'test.timeoutSeconds',
      ['test.timeoutSeconds=5'],
      (all) => find(all, 'Pod')?.['spec'].containers[0].args[2],
      '--timeout-seconds=5',
    ],
    ['crds.install', ['crds.install=false'], has('CustomResourceDefinition'), false],
    ['admissionPolicy.enabled', ['admissionPolicy.enabled=false'], has('ValidatingAdmissionPolicy'), false],
    [
      'monitoring.serviceMonitor.enabled',
      ['monitoring.serviceMonitor.enabled=false'],
      has('ServiceMonitor'),
      false,
    ],
    ['monitoring.podMonitor.enabled', ['monitoring.podMonitor.enabled=false'], has('PodMonitor'), false],
    [
      'monitoring.prometheusRule.enabled',
      ['monitoring.prometheusRule.enabled=false'],
      has('PrometheusRule'),
      false,
    ],
    [
      'monitoring.grafanaDashboards.enabled',
      ['monitoring.grafanaDashboards.enabled=false'],
      has('ConfigMap'),
      false,
    ],
    [
      'monitoring.grafanaDashboards.labels',
      ['monitoring.grafanaDashboards.labels.dashboards=storage'],
      (all) => find(all, 'ConfigMap')?.metadata.labels?.['dashboards'],
      'storage',
    ],
    [
      'monitoring.grafanaDashboards.annotations',
      ['monitoring.grafanaDashboards.annotations.grafana_folder=Storage'],
      (all) => find(all, 'ConfigMap')?.metadata.annotations,
      { grafana_folder: 'Storage' },
    ],
    [
      'monitoring.interval',
      ['monitoring.interval=5s'],
      (all) => [
        find(all, 'ServiceMonitor')?.['spec'].endpoints[0].interval,
        find(all, 'PodMonitor')?.['spec'].podMetricsEndpoints[0].interval,
      ],
      ['5s', '5s'],
    ],
    [
      'monitoring.labels',
      ['monitoring.labels.team=storage'],
      (all) => monitors.map((kind) => find(all, kind)?.metadata.labels?.['team']),
      ['storage', 'storage', 'storage'],
    ],
    [
      'alerts.runbookBaseURL',
      ['alerts.runbookBaseURL=https://wiki.example'],
      (all) => find(all, 'PrometheusRule')?.['spec'].groups[0].rules[0].annotations.runbook_url,
      'https://wiki.example/WeirAuthenticationFailures.md',
    ],
    [
      'alerts.rules',
      ['alerts.rules.WeirAuthenticationFailures.enabled=false'],
      (all) => find(all, 'PrometheusRule')?.['spec'].groups[0].rules[0].alert,
      'WeirDeviceFatal',
    ],
  ];

  let byDefault: Promise<Manifest[]>;
  beforeAll(() => {
    byDefault = template(...monitoring);
  });

  it.concurrent.each(effects)('heeds %s', async (_, values, look, expected) => {
    const before = await byDefault;
    const after = await template(...monitoring, ...values.flatMap((value) => ['--set', value]));
    expect(look(after)).toEqual(expected);
    expect(look(before)).not.toEqual(expected);
  });

  it('has no value without an effect', async () => {
    const values = parse(await readFile(join(CHART, 'values.yaml'), 'utf8')) as Record<string, unknown>;
    const tested = new Set(effects.map(([path]) => path));
    const isTested = (value: unknown, path: string): boolean =>
      tested.has(path) ||
      (typeof value === 'object' &&
        value !== null &&
        !Array.isArray(value) &&
        Object.keys(value).length > 0 &&
        Object.entries(value).every(([name, child]) => isTested(child, `${path}.${name}`)));
    expect(Object.entries(values).filter(([name, value]) => !isTested(value, name))).toEqual([]);
  });

  it('spreads its replicas over nodes, and lets one go at a time', async () => {
    const manifests = await template();
    expect(podSpec(manifests).topologySpreadConstraints).toMatchObject([
      { maxSkew: 1, topologyKey: 'kubernetes.io/hostname', whenUnsatisfiable: 'ScheduleAnyway' },
    ]);
    const labels = find(manifests, 'Deployment')?.['spec'].template.metadata.labels;
    for (const selector of [
      podSpec(manifests).topologySpreadConstraints[0].labelSelector.matchLabels,
      find(manifests, 'PodDisruptionBudget')?.['spec'].selector.matchLabels,
      find(manifests, 'Service')?.['spec'].selector,
    ]) {
      expect(labels).toMatchObject(selector);
    }
    expect(find(manifests, 'PodDisruptionBudget')?.['spec'].maxUnavailable).toBe(1);
  });

  it.each([
    ['one replica without a budget', ['operator.replicas=1'], 'PodDisruptionBudget'],
    ['no CRDs', ['crds.install=false'], 'CustomResourceDefinition'],
    ['no admission policy', ['admissionPolicy.enabled=false'], 'ValidatingAdmissionPolicy'],
    ['no ServiceMonitor', ['monitoring.serviceMonitor.enabled=false'], 'ServiceMonitor'],
    ['no PodMonitor', ['monitoring.podMonitor.enabled=false'], 'PodMonitor'],
    ['no rules', ['monitoring.prometheusRule.enabled=false'], 'PrometheusRule'],
  ])('can be set to %s', async (_, values, kind) => {
    const manifests = await template(...monitoring, ...values.flatMap((value) => ['--set', value]));
    expect(find(manifests, kind)).toBeUndefined();
    expect(find(manifests, 'Deployment')).toBeDefined();
  });

  it('hands its settings on to the operator', async () => {
    const values = [
      'image.repository=registry.example/weir',
      `image.digest=sha256:${'a'.repeat(64)}`,
      'imagePullSecrets={pull}',
      'operator.logLevel=debug',
      'dataplane.deviceAccess=Privileged',
      'dataplane.seccompProfile=Localhost/weir.json',
      'dataplane.portRange.first=20000',
      'dataplane.portRange.last=20010',
      'dataplane.fileDirectories={/srv/a,/srv/b}',
    ];
    const options = parseOptions(
      operatorArgs(await template(...values.flatMap((value) => ['--set', value]))),
    );
    expect(options.logLevel).toBe('debug');
    expect(options.dataplane).toMatchObject({
      image: `registry.example/weir@sha256:${'a'.repeat(64)}`,
      imagePullSecrets: ['pull'],
      deviceAccess: 'Privileged',
      seccompProfile: 'Localhost/weir.json',
      portRange: { first: 20000, last: 20010 },
      fileDirectories: ['/srv/a', '/srv/b'],
    });
  });

  it('takes directories for the admission policy as the operator does: with a slash at the end or without', async () => {
    const values = ['dataplane.fileDirectories={/srv/,/data}', 'dataplane.deviceDirectories={/dev/disk/}'];
    const manifests = await template(...values.flatMap((value) => ['--set', value]));
    const policy = manifests.find(
      ({ metadata }) => metadata.name === 'weir-operator-weir-system-operator-pods',
    );
    const expressions = JSON.stringify(
      policy?.['spec'].validations.map((one: Part) => one.expression.replaceAll('"', "'")),
    );
    expect(expressions).toContain("['/srv','/data'].exists");
    expect(expressions).toContain("['/dev/disk'].exists");
  });

  it('refuses metrics behind tokens while Prometheus has none', async () => {
    const values = ['--set', 'metrics.authentication.enabled=true,metrics.tls.secretName=tls'];
    await expect(template(...monitoring, ...values)).rejects.toThrow('monitoring.bearerTokenSecret.name');
    expect(find(await template(...values), 'Deployment')).toBeDefined();
  });

  it('refuses a window for an alert that looks at the present only', async () => {
    await expect(rules('--set', 'alerts.rules.WeirLinkDown.window=5m')).rejects.toThrow(
      'WeirLinkDown.window',
    );
  });

  it.concurrent.each([
    ['dataplane.deviceAccess=Sometimes', 'deviceAccess'],
    ['operator.replicas=-1', 'replicas'],
    ['operator.replica=2', 'replica'],
    ['metrics.authentication.enabled=true', 'metrics.authentication.enabled needs metrics.tls.secretName'],
    ['networkPolicy.apiServerPorts={}', 'apiServerPorts'],
    ['test.targets={fast}', 'targets'],
    ['image.pullPolicy=Perhaps', 'pullPolicy'],
    ['image.digest=sha256:short', 'digest'],
    ['dataplane.seccompProfile=Localhost', 'seccompProfile'],
    ['dataplane.portRange.first=80', 'first'],
    ['dataplane.portRange.first=9900', 'first must not be greater than last'],
    ['dataplane.fileDirectories={/var/../etc}', 'fileDirectories'],
    ['dataplane.fileDirectories={relative}', 'fileDirectories'],
    ['monitoring.interval=often', 'interval'],
    ['alerts.runbookBaseURL=wiki', 'runbookBaseURL'],
    ['alerts.rules.WeirLinkDwn.enabled=false', 'alerts.rules.WeirLinkDwn: there is no such alert'],
    ['alerts.rules.WeirLinkDown.fro=1m', 'fro'],
    ['alerts.rules.WeirLinkDown.for=soon', 'for'],
  ])('refuses %s and names the value', async (value, message) => {
    await expect(template('--set', value)).rejects.toThrow(message);
  });
});
