/** helm and kubectl as tests run them: the built ones, with a home of their own. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import { silentProgress } from '../../../lab/progress.ts';
import { kubernetesBinaries } from '../../../lab/setup/binaries.ts';

const execute = promisify(execFile);

/** Directory of the chart. */
export const CHART = fileURLToPath(new URL('..', import.meta.url));

/** Name and namespace of the release in tests, as the README has them. */
export const RELEASE = 'weir';
/** See {@link RELEASE}. */
export const RELEASE_NAMESPACE = 'weir-system';

/** Kubernetes that templates are rendered for where there is no cluster. */
const KUBERNETES_VERSION = '1.36.0';

/** One rendered object. */
export interface Manifest {
  kind: string;
  metadata: { name: string; annotations?: Record<string, string>; labels?: Record<string, string> };
  // biome-ignore lint/suspicious/noExplicitAny: manifests of every kind; expectations check their fields.
  [field: string]: any;
}

/** See the module's comment. */
export class Helm {
  readonly #binaries: string;
  /** A directory for files of the test; removed by {@link close}. */
  readonly home = mkdtempSync(join(tmpdir(), 'weir-helm-'));

  private constructor(binaries: string) {
    this.#binaries = binaries;
  }

  /** Builds what is missing. */
  static async open(): Promise<Helm> {
    return new Helm(await kubernetesBinaries(silentProgress, ['helm', 'kube-apiserver', 'kubectl']));
  }

  /** Removes the home. */
  close(): void {
    rmSync(this.home, { recursive: true, force: true });
  }

  /** Runs helm; nothing of the machine's configuration is read. */
  async run(...args: string[]): Promise<string> {
    const { home } = this;
    const env = { ...process.env, HELM_CACHE_HOME: home, HELM_CONFIG_HOME: home, HELM_DATA_HOME: home };
    const { stdout } = await execute(join(this.#binaries, 'helm'), args, {
      env,
      timeout: 90_000,
      maxBuffer: 16 * 1024 * 1024,
    });
    return stdout;
  }

  /** What a chart is rendered to. */
  async template(args: readonly string[] = [], chart = CHART): Promise<Manifest[]> {
    const where = ['--namespace', RELEASE_NAMESPACE, '--kube-version', KUBERNETES_VERSION];
    const text = await this.run('template', RELEASE, chart, ...where, ...args);
    return parseAllDocuments(text).flatMap((document) => (document.toJS() as Manifest | null) ?? []);
  }

  /** Runs helm on the release of a cluster. */
  release(kubeconfig: string, ...args: string[]): Promise<string> {
    return this.run(
      ...args,
      '--kubeconfig',
      kubeconfig,
      '--namespace',
      RELEASE_NAMESPACE,
      '--timeout',
      '60s',
    );
  }

  /** Runs kubectl. */
  async kubectl(kubeconfig: string, ...args: string[]): Promise<string> {
    const argv = ['--kubeconfig', kubeconfig, ...args];
    const { stdout } = await execute(join(this.#binaries, 'kubectl'), argv, { timeout: 30_000 });
    return stdout;
  }
}
