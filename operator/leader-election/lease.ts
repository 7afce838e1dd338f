/** The Lease object that replicas compete for (coordination.k8s.io/v1). */
import type { Api } from '../kubernetes/api-client.ts';
import { isNotFound } from '../kubernetes/api-error.ts';
import type { ObjectMeta } from '../kubernetes/object.ts';
import { apiVersionOf, listPath, objectPath, RESOURCES } from '../kubernetes/resource.ts';

/** Name of the Lease that the operator's replicas compete for. */
export const LEASE_NAME = 'weir-operator';

/** `spec` of a Lease. Times are RFC 3339 with microseconds. */
export interface LeaseSpec {
  readonly holderIdentity?: string;
  readonly leaseDurationSeconds?: number;
  readonly acquireTime?: string;
  readonly renewTime?: string;
  readonly leaseTransitions?: number;
}

/** A Lease. */
export interface Lease {
  readonly metadata: ObjectMeta;
  readonly spec?: LeaseSpec;
}

/** Where the lease is kept. Both writes fail with a conflict when somebody else was faster. */
export interface LeaseStore {
  read(): Promise<Lease | undefined>;
  create(spec: LeaseSpec): Promise<Lease>;
  /** Writes on top of exactly the version that was read. */
  replace(read: Lease, spec: LeaseSpec): Promise<Lease>;
}

/** The lease in the API. */
export class ApiLeaseStore implements LeaseStore {
  readonly #api: Api;
  readonly #namespace: string;
  readonly #name: string;

  constructor(api: Api, namespace: string, name: string) {
    this.#api = api;
    this.#namespace = namespace;
    this.#name = name;
  }

  async read(): Promise<Lease | undefined> {
    try {
      return (await this.#api.get(this.#path())) as Lease;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async create(spec: LeaseSpec): Promise<Lease> {
    const body = this.#body({ name: this.#name, namespace: this.#namespace }, spec);
    return (await this.#api.create(listPath(RESOURCES.leases, this.#namespace), body)) as Lease;
  }

  async replace(read: Lease, spec: LeaseSpec): Promise<Lease> {
    return (await this.#api.replace(this.#path(), this.#body(read.metadata, spec))) as Lease;
  }

  #path(): string {
    return objectPath(RESOURCES.leases, { namespace: this.#namespace, name: this.#name });
  }

  #body(metadata: ObjectMeta, spec: LeaseSpec) {
    return { apiVersion: apiVersionOf(RESOURCES.leases), kind: 'Lease', metadata, spec };
  }
}
