import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LabError } from '../errors.ts';
import { cacheDirectory } from '../paths.ts';
import type { Progress } from '../progress.ts';
import { run } from '../system/command.ts';
import { withLock } from '../system/lock.ts';
import { GO_ENVIRONMENT, goCommand } from './go.ts';

/** The Go module that pins the versions of everything built here. */
const MODULE = fileURLToPath(new URL('../control-plane/build/', import.meta.url));

/** Commands that the lab builds, with the package each is built from. */
const PACKAGES = {
  'kube-apiserver': 'k8s.io/kubernetes/cmd/kube-apiserver',
  'kube-controller-manager': 'k8s.io/kubernetes/cmd/kube-controller-manager',
  'kube-scheduler': 'k8s.io/kubernetes/cmd/kube-scheduler',
  kubelet: 'k8s.io/kubernetes/cmd/kubelet',
  kubectl: 'k8s.io/kubernetes/cmd/kubectl',
  helm: 'helm.sh/helm/v3/cmd/helm',
} as const;

export type KubernetesBinary = keyof typeof PACKAGES;

/** A cold build of everything takes about 10 minutes on two cores. */
const BUILD_TIMEOUT_SECONDS = 3600;

/** Version of Kubernetes, from go.mod, for example `v1.36.3`. */
export function kubernetesVersion(): string {
  const version = /^\s*k8s\.io\/kubernetes (v\S+)/m.exec(readFileSync(join(MODULE, 'go.mod'), 'utf8'))?.[1];
  if (version === undefined) {
    throw new LabError('MissingTool', `${MODULE}go.mod does not name k8s.io/kubernetes`);
  }
  return version;
}

/**
 * The directory that holds the built commands; builds those that are missing. Its name is a hash of the
 * module's files and the flags, so another version gets another directory.
 */
export async function kubernetesBinaries(
  progress: Progress,
  names: readonly KubernetesBinary[] = Object.keys(PACKAGES) as KubernetesBinary[],
): Promise<string> {
  const flags = linkerFlags(kubernetesVersion());
  const directory = cacheDirectory('kubernetes', keyOf(flags));
  const missing = (): KubernetesBinary[] => names.filter((name) => !existsSync(join(directory, name)));
  if (missing().length === 0) {
    return directory;
  }
  await withLock(join(directory, 'lock'), BUILD_TIMEOUT_SECONDS, async () => {
    const go = await goCommand(progress);
    for (const name of missing()) {
      const log = join(directory, `${name}.build.log`);
      await progress.step(
        `build ${name} ${name === 'helm' ? '' : kubernetesVersion()}`.trimEnd(),
        async () => {
          const draft = join(directory, `.${name}`);
          await run([go, 'build', '-trimpath', '-ldflags', flags, '-o', draft, PACKAGES[name]], {
            cwd: MODULE,
            env: GO_ENVIRONMENT,
            timeoutSeconds: BUILD_TIMEOUT_SECONDS,
            log,
          });
          renameSync(draft, join(directory, name));
          rmSync(log, { force: true });
        },
      );
    }
  });
  return directory;
}

function linkerFlags(version: string): string {
  const [major = '', minor = ''] = version.replace(/^v/, '').split('.');
  const set = (name: string, value: string): string => `-X k8s.io/component-base/version.${name}=${value}`;
  return [set('gitVersion', version), set('gitMajor', major), set('gitMinor', minor), '-s -w'].join(' ');
}

function keyOf(flags: string): string {
  const hash = createHash('sha256').update(flags).update(JSON.stringify(PACKAGES));
  for (const file of ['go.mod', 'go.sum']) {
    hash.update(readFileSync(join(MODULE, file)));
  }
  return hash.digest('hex').slice(0, 16);
}

/**
 * A Go program built in a module of the lab, cached by the content of its files: the module's own, or a package that
 * its go.mod pins.
 */
export async function goProgram(
  progress: Progress,
  source: string,
  files: readonly string[],
  packagePath = '.',
): Promise<string> {
  const hash = createHash('sha256');
  for (const file of files) {
    hash.update(readFileSync(join(source, file)));
  }
  const name = basename(source);
  const directory = cacheDirectory('programs', `${name}-${hash.digest('hex').slice(0, 16)}`);
  const program = join(directory, name);
  if (!existsSync(program)) {
    await withLock(join(directory, 'lock'), BUILD_TIMEOUT_SECONDS, async () => {
      if (existsSync(program)) {
        return;
      }
      const go = await goCommand(progress);
      const log = join(directory, 'build.log');
      await progress.step(`build ${name}`, async () => {
        mkdirSync(directory, { recursive: true });
        await run([go, 'build', '-trimpath', '-ldflags', '-s -w', '-o', `${program}.draft`, packagePath], {
          cwd: source,
          env: GO_ENVIRONMENT,
          timeoutSeconds: BUILD_TIMEOUT_SECONDS,
          log,
        });
        renameSync(`${program}.draft`, program);
      });
    });
  }
  return program;
}
