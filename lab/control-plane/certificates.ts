import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../system/command.ts';

/** A certificate and its key, as paths of PEM files. */
export interface KeyPair {
  certificate: string;
  key: string;
}

/** What a certificate says about its holder. */
export interface Identity {
  commonName: string;
  /** Kubernetes reads the organisation as the group. */
  organization?: string;
  /** Subject alternative names in OpenSSL's notation, for example `IP:127.0.0.1`. Server certificates only. */
  alternativeNames?: readonly string[];
}

/** Certificates live as long as a lab might; a lab that is older is brought down and up. */
const VALIDITY_DAYS = 365;
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'] as const;

/** One certificate authority for the whole lab, in one directory. Existing certificates are kept. */
export class CertificateAuthority {
  readonly directory: string;
  readonly certificate: string;
  readonly key: string;

  private constructor(directory: string) {
    this.directory = directory;
    this.certificate = join(directory, 'ca.crt');
    this.key = join(directory, 'ca.key');
  }

  static async open(directory: string): Promise<CertificateAuthority> {
    const authority = new CertificateAuthority(directory);
    if (!existsSync(authority.certificate)) {
      await openssl([
        'req',
        '-x509',
        ...NEW_KEY,
        ...['-keyout', authority.key, '-out', authority.certificate, '-days', String(VALIDITY_DAYS)],
        ...['-subj', '/CN=weir-lab'],
        ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature'],
      ]);
    }
    return authority;
  }

  /** Issues a certificate for clients and servers under a file name, unless it exists. */
  async issue(name: string, identity: Identity): Promise<KeyPair> {
    const pair = {
      certificate: join(this.directory, `${name}.crt`),
      key: join(this.directory, `${name}.key`),
    };
    if (existsSync(pair.certificate)) {
      return pair;
    }
    const organization = identity.organization === undefined ? '' : `/O=${identity.organization}`;
    const names = identity.alternativeNames ?? [];
    await openssl([
      'req',
      '-x509',
      ...NEW_KEY,
      ...['-CA', this.certificate, '-CAkey', this.key],
      ...['-keyout', pair.key, '-out', pair.certificate, '-days', String(VALIDITY_DAYS)],
      ...['-subj', `${organization}/CN=${identity.commonName}`],
      ...['-addext', 'basicConstraints=critical,CA:FALSE'],
      ...['-addext', 'keyUsage=critical,digitalSignature,keyEncipherment'],
      ...['-addext', 'extendedKeyUsage=clientAuth,serverAuth'],
      ...(names.length === 0 ? [] : ['-addext', `subjectAltName=${names.join(',')}`]),
    ]);
    return pair;
  }

  /** A plain RSA key pair, with which service account tokens are signed. */
  async signingKey(name: string): Promise<string> {
    const key = join(this.directory, `${name}.key`);
    if (!existsSync(key)) {
      await openssl(['genrsa', '-out', key, '2048']);
    }
    return key;
  }
}

function openssl(args: readonly string[]): Promise<string> {
  return run(['openssl', ...args], { timeoutSeconds: 30 });
}
