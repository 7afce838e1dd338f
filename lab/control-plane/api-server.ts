import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { LabError } from '../errors.ts';
import { type Progress, silentProgress } from '../progress.ts';
import { kubernetesBinaries } from '../setup/binaries.ts';
import { requireDaemon, startDaemon, stopDaemon } from '../system/daemon.ts';
import { freePorts } from '../system/ports.ts';
import { waitFor } from '../system/wait.ts';
import { CertificateAuthority, type KeyPair } from './certificates.ts';
import { startEtcd } from './etcd.ts';
import { writeKubeconfig } from './kubeconfig.ts';

/** Address of the machine as guests see it through QEMU's user network. */
export const MACHINE_ADDRESS_IN_GUESTS = '10.0.2.2';
/** First address of the service range: the service `kubernetes`. */
export const KUBERNETES_SERVICE_ADDRESS = '10.96.0.1';
const SERVICE_RANGE = '10.96.0.0/16';
const READY_TIMEOUT_SECONDS = 90;

/** How to start an API server. */
export interface ApiServerOptions {
  /** Everything is kept here: data, certificates, logs, process ids. A later start finds it again. */
  dir: string;
  /** End etcd and the API server when this process ends. Default: true. */
  tiedToParent?: boolean;
  /** Unix socket of the proxy through which nodes and pods are reached; without it they are dialled directly. */
  egressProxySocket?: string;
  /** Who writes what, and when, is kept in `audit.log` of the directory: one JSON line (audit.k8s.io/v1) a request. */
  auditWrites?: true;
  progress?: Progress;
}

/** What is known about an API server before it runs. */
export interface ApiServerPlan {
  /** For example `https://127.0.0.1:40123`. */
  url: string;
  port: number;
  authority: CertificateAuthority;
  /** Path of the key that signs service account tokens. */
  serviceAccountKey: string;
}

/** A running API server with its etcd. */
export interface ApiServer extends ApiServerPlan {
  /** Path of a cluster administrator's kubeconfig. */
  kubeconfig: string;
  /** Ends both processes; the data stay. */
  stop(): Promise<void>;
  /** Ends the API server only, so that its return can be tested with `startApiServer`. */
  stopApiServer(): Promise<void>;
}

interface Ports {
  apiServer: number;
  etcdClient: number;
  etcdPeer: number;
}

/** Chooses the ports and makes the certificate authority, once per directory. */
export async function planApiServer(dir: string): Promise<ApiServerPlan> {
  const certificates = join(dir, 'certificates');
  mkdirSync(certificates, { recursive: true, mode: 0o700 });
  const { apiServer: port } = await rememberedPorts(dir);
  const authority = await CertificateAuthority.open(certificates);
  const serviceAccountKey = await authority.signingKey('service-account');
  return { url: `https://127.0.0.1:${port}`, port, authority, serviceAccountKey };
}

/**
 * Starts etcd and a real kube-apiserver on loopback and waits until it is ready. Safe to repeat: what runs
 * already is kept.
 */
export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { dir } = options;
  const tiedToParent = options.tiedToParent ?? true;
  const binaries = await kubernetesBinaries(options.progress ?? silentProgress, ['kube-apiserver']);
  const plan = await planApiServer(dir);
  const { authority, serviceAccountKey } = plan;
  const ports = await rememberedPorts(dir);
  const [server, administrator, kubeletClient] = await Promise.all([
    authority.issue('kube-apiserver', {
      commonName: 'kube-apiserver',
      alternativeNames: [
        'IP:127.0.0.1',
        `IP:${MACHINE_ADDRESS_IN_GUESTS}`,
        `IP:${KUBERNETES_SERVICE_ADDRESS}`,
        ...['localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'].map(
          (name) => `DNS:${name}`,
        ),
      ],
    }),
    authority.issue('admin', { commonName: 'lab-admin', organization: 'system:masters' }),
    authority.issue('kubelet-client', {
      commonName: 'kube-apiserver-kubelet-client',
      organization: 'system:masters',
    }),
  ]);
  const etcd = await startEtcd({
    directory: dir,
    authority,
    clientPort: ports.etcdClient,
    peerPort: ports.etcdPeer,
    tiedToParent,
  });

  const log = join(dir, 'kube-apiserver.log');
  startDaemon({
    name: 'kube-apiserver',
    directory: dir,
    log,
    tiedToParent,
    argv: [
      join(binaries, 'kube-apiserver'),
      ...['--bind-address', '127.0.0.1', '--secure-port', String(ports.apiServer)],
      ...['--advertise-address', MACHINE_ADDRESS_IN_GUESTS, '--service-cluster-ip-range', SERVICE_RANGE],
      ...['--etcd-servers', etcd.endpoint, '--etcd-cafile', authority.certificate],
      ...['--etcd-certfile', etcd.client.certificate, '--etcd-keyfile', etcd.client.key],
      ...['--tls-cert-file', server.certificate, '--tls-private-key-file', server.key],
      ...['--client-ca-file', authority.certificate, '--authorization-mode', 'Node,RBAC'],
      ...['--enable-admission-plugins', 'NodeRestriction', '--allow-privileged'],
      ...['--kubelet-certificate-authority', authority.certificate],
      ...[
        '--kubelet-client-certificate',
        kubeletClient.certificate,
        '--kubelet-client-key',
        kubeletClient.key,
      ],
      ...['--kubelet-preferred-address-types', 'InternalIP'],
      ...['--service-account-issuer', 'https://kubernetes.default.svc'],
      ...[
        '--service-account-key-file',
        serviceAccountKey,
        '--service-account-signing-key-file',
        serviceAccountKey,
      ],
      ...['--profiling=false', '--event-ttl', '24h'],
      ...egressFlags(dir, options.egressProxySocket),
      ...(options.auditWrites === true ? auditFlags(dir) : []),
    ],
  });
  await waitFor(
    () => {
      requireDaemon(dir, 'etcd', join(dir, 'etcd.log'));
      requireDaemon(dir, 'kube-apiserver', log);
      return isReady(ports.apiServer, authority, administrator);
    },
    { what: 'the API server to become ready', timeoutSeconds: READY_TIMEOUT_SECONDS, log },
  );

  const kubeconfig = join(dir, 'kubeconfig');
  writeKubeconfig({
    path: kubeconfig,
    server: plan.url,
    caCertificate: authority.certificate,
    user: 'admin',
    client: administrator,
  });
  const stopApiServer = (): Promise<void> => stopDaemon(dir, 'kube-apiserver');
  return {
    ...plan,
    kubeconfig,
    stopApiServer,
    async stop() {
      await stopApiServer();
      await stopDaemon(dir, 'etcd');
    },
  };
}

/** Ports are chosen once per directory: kubeconfigs and guests keep pointing to them after a restart. */
async function rememberedPorts(dir: string): Promise<Ports> {
  const path = join(dir, 'ports.json');
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Ports;
  } catch {
    const [apiServer, etcdClient, etcdPeer] = await freePorts(3);
    if (apiServer === undefined || etcdClient === undefined || etcdPeer === undefined) {
      throw new LabError('CommandFailed', 'no free TCP port on loopback');
    }
    const ports = { apiServer, etcdClient, etcdPeer };
    writeFileSync(path, JSON.stringify(ports), { mode: 0o600 });
    return ports;
  }
}

/** Connections to nodes and pods ("cluster" traffic) go through the proxy, because only guests know the way. */
function egressFlags(dir: string, socket: string | undefined): string[] {
  if (socket === undefined) {
    return [];
  }
  const path = join(dir, 'egress.json');
  const configuration = {
    apiVersion: 'apiserver.k8s.io/v1beta1',
    kind: 'EgressSelectorConfiguration',
    egressSelections: [
      {
        name: 'cluster',
        connection: { proxyProtocol: 'HTTPConnect', transport: { uds: { udsName: socket } } },
      },
    ],
  };
  writeFileSync(path, JSON.stringify(configuration), { mode: 0o600 });
  return ['--egress-selector-config-file', path];
}

function auditFlags(dir: string): string[] {
  const path = join(dir, 'audit-policy.json');
  const policy = {
    apiVersion: 'audit.k8s.io/v1',
    kind: 'Policy',
    omitStages: ['RequestReceived'],
    rules: [
      { level: 'Metadata', verbs: ['create', 'update', 'patch', 'delete', 'deletecollection'] },
      { level: 'None' },
    ],
  };
  writeFileSync(path, JSON.stringify(policy), { mode: 0o600 });
  return ['--audit-policy-file', path, '--audit-log-path', join(dir, 'audit.log')];
}

function isReady(port: number, authority: CertificateAuthority, client: KeyPair): Promise<boolean> {
  return new Promise((resolve) => {
    const call = request(
      {
        host: '127.0.0.1',
        port,
        path: '/readyz',
        agent: false,
        ca: readFileSync(authority.certificate),
        cert: readFileSync(client.certificate),
        key: readFileSync(client.key),
        timeout: 2000,
      },
      (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      },
    );
    call.on('error', () => resolve(false));
    call.on('timeout', () => call.destroy());
    call.end();
  });
}
