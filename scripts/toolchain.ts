import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { runLogged, tail } from './child.ts';

/** MIT licence. */
const cargoMutantsVersion = '27.1.0';

/** The oldest Rust that builds the core: Debian 13's, which builds the image. */
const minimumRust = [1, 85] as const;

/**
 * What the native build needs beside Rust: cmake, make and a C compiler for the dlopen shims of libibverbs and
 * librdmacm, libclang for their bindings. The libraries themselves are loaded at run time.
 */
const nativeBuildPackages = [
  'ca-certificates',
  'cmake',
  'gcc',
  'ibverbs-providers',
  'libc6-dev',
  'libclang-dev',
  'libibverbs1',
  'librdmacm1',
  'make',
];

/** Rust as Debian packages it: the release's own, or the newer one that it carries for browsers. */
const rustPackageSets = [
  ['rustc', 'cargo', 'rust-clippy', 'rustfmt'],
  ['rustc-web', 'cargo-web', 'rust-web-clippy', 'rustfmt-web'],
];

/** The machine lacks something that the set-up cannot install by itself. The message says what to do. */
export class ToolchainError extends Error {
  readonly code = 'WEIR_TOOLCHAIN';
}

/**
 * Makes sure that the native core can be built here: installs missing Debian packages and, where there is no
 * Rust that is new enough, Debian's. Puts cargo on this process's PATH.
 */
export async function ensureNativeToolchain(logFile: string): Promise<void> {
  addUserCargoToPath();
  await ensurePackages(nativeBuildPackages, logFile);
  if (rustIsReady()) return;
  // A machine that never ran it knows no packages, and its answer would be that there is no Rust.
  await runLogged(aptGet('update'), logFile, { timeoutSeconds: 300 });
  for (const packages of rustPackageSets) {
    const version = candidateVersion(packages[0] ?? '');
    if (version === undefined || !isNewEnough(version)) continue;
    await ensurePackages(packages, logFile);
    if (rustIsReady()) return;
  }
  throw new ToolchainError(
    `Rust ${minimumRust.join('.')} or later with clippy and rustfmt is needed, and neither PATH nor ` +
      "this Debian's packages have it. Install it (for example with rustup) and run the command again.",
  );
}

/**
 * Makes sure that cargo-mutants is there in the version whose mutants the exceptions in native/.cargo/mutants.toml name.
 * Builds it, for minutes, if it is not.
 *
 * @throws {ToolchainError} if cargo cannot install it.
 */
export async function ensureCargoMutants(logFile: string): Promise<void> {
  const found = spawnSync('cargo', ['mutants', '--version'], { encoding: 'utf8' });
  if (found.stdout?.trim() === `cargo-mutants ${cargoMutantsVersion}`) return;
  console.log(`  installing cargo-mutants ${cargoMutantsVersion} … (log: ${logFile})`);
  const install = ['cargo', 'install', '--locked', `cargo-mutants@${cargoMutantsVersion}`];
  if ((await runLogged(install, logFile, { timeoutSeconds: 1800 })) !== 0) {
    throw new ToolchainError(`"${install.join(' ')}" failed:\n${tail(logFile, 1500)}`);
  }
}

/**
 * Installs Debian packages that are missing.
 *
 * @throws {ToolchainError} if apt cannot install them or this is no Debian.
 */
export async function ensurePackages(packages: readonly string[], logFile: string): Promise<void> {
  const missing = missingPackages(packages);
  if (missing.length === 0) return;
  const install = `apt-get install ${missing.join(' ')}`;
  if (spawnSync('apt-get', ['--version']).status !== 0) {
    throw new ToolchainError(`install the equivalents of these Debian packages: ${missing.join(' ')}`);
  }
  console.log(`  installing ${missing.join(' ')} …`);
  await runLogged(aptGet('update'), logFile, { timeoutSeconds: 300 });
  const exitCode = await runLogged(aptGet('install', '-y', '--no-install-recommends', ...missing), logFile, {
    timeoutSeconds: 1200,
  });
  if (exitCode !== 0) {
    throw new ToolchainError(`"${install}" failed:\n${tail(logFile, 1500)}`);
  }
}

function aptGet(...args: string[]): string[] {
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '-n'];
  return [...sudo, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', ...args];
}

function missingPackages(packages: readonly string[]): string[] {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the placeholders are dpkg-query's
  const query = spawnSync('dpkg-query', ['-W', '-f', '${Package} ${db:Status-Abbrev}\n', ...packages], {
    encoding: 'utf8',
  });
  const installed = new Set(
    (query.stdout ?? '')
      .split('\n')
      .filter((line) => line.includes(' ii'))
      .map((line) => line.split(' ')[0]),
  );
  return packages.filter((name) => !installed.has(name));
}

function candidateVersion(packageName: string): string | undefined {
  const policy = spawnSync('apt-cache', ['policy', packageName], { encoding: 'utf8' });
  return /Candidate: (?!\(none\))(\S+)/.exec(policy.stdout ?? '')?.[1];
}

function rustIsReady(): boolean {
  const rustc = spawnSync('rustc', ['--version'], { encoding: 'utf8' });
  const version = /^rustc (\S+)/.exec(rustc.stdout ?? '')?.[1];
  return (
    version !== undefined &&
    isNewEnough(version) &&
    [['fmt'], ['clippy']].every((tool) => spawnSync('cargo', [...tool, '--version']).status === 0)
  );
}

function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  return major > minimumRust[0] || (major === minimumRust[0] && minor >= minimumRust[1]);
}

function addUserCargoToPath(): void {
  const directory = join(process.env['CARGO_HOME'] || join(homedir(), '.cargo'), 'bin');
  const path = process.env['PATH'] ?? '';
  if (existsSync(join(directory, 'cargo')) && !path.split(delimiter).includes(directory)) {
    process.env['PATH'] = `${path}${delimiter}${directory}`;
  }
}
