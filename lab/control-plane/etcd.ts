import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { startDaemon } from '../system/daemon.ts';
import type { CertificateAuthority, KeyPair } from './certificates.ts';

/** A running etcd. */
export interface Etcd {
  endpoint: string;
  client: KeyPair;
}

/** Starts a single etcd on loopback that takes clients with a certificate of the lab only. */
export async function startEtcd(options: {
  directory: string;
  authority: CertificateAuthority;
  clientPort: number;
  peerPort: number;
  tiedToParent: boolean;
}): Promise<Etcd> {
  const { directory, authority } = options;
  const server = await authority.issue('etcd', { commonName: 'etcd', alternativeNames: ['IP:127.0.0.1'] });
  const endpoint = `https://127.0.0.1:${options.clientPort}`;
  const peer = `http://127.0.0.1:${options.peerPort}`;
  const data = join(directory, 'etcd');
  mkdirSync(data, { recursive: true, mode: 0o700 });
  startDaemon({
    name: 'etcd',
    directory,
    log: join(directory, 'etcd.log'),
    tiedToParent: options.tiedToParent,
    argv: [
      'etcd',
      ...['--name', 'lab', '--data-dir', data],
      ...['--listen-client-urls', endpoint, '--advertise-client-urls', endpoint],
      ...[
        '--listen-peer-urls',
        peer,
        '--initial-advertise-peer-urls',
        peer,
        '--initial-cluster',
        `lab=${peer}`,
      ],
      ...['--cert-file', server.certificate, '--key-file', server.key],
      ...['--trusted-ca-file', authority.certificate, '--client-cert-auth'],
    ],
  });
  return { endpoint, client: server };
}
