import { readFileSync, writeFileSync } from 'node:fs';
import { stringify } from 'yaml';
import type { KeyPair } from './certificates.ts';

/** What a client needs to reach the API server. */
export interface KubeconfigOptions {
  path: string;
  /** For example `https://127.0.0.1:6443`. */
  server: string;
  caCertificate: string;
  user: string;
  client: KeyPair;
}

/** Writes a kubeconfig with everything embedded, so that it can be copied to another machine. */
export function writeKubeconfig(options: KubeconfigOptions): void {
  const base64 = (path: string): string => readFileSync(path).toString('base64');
  const name = 'weir-lab';
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name,
        cluster: { server: options.server, 'certificate-authority-data': base64(options.caCertificate) },
      },
    ],
    users: [
      {
        name: options.user,
        user: {
          'client-certificate-data': base64(options.client.certificate),
          'client-key-data': base64(options.client.key),
        },
      },
    ],
    contexts: [{ name, context: { cluster: name, user: options.user } }],
    'current-context': name,
  };
  writeFileSync(options.path, stringify(config), { mode: 0o600 });
}
