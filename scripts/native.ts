import { copyFileSync, mkdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { runLogged, tail } from './child.ts';
import { cargoTargetDirectory, nativeLibraryPath } from './paths.ts';
import { addTallies, tallyLibtest, tallyStep } from './results.ts';
import { commandStage, type Stage } from './stages.ts';
import { ensureNativeToolchain, ensurePackages } from './toolchain.ts';

/** Time limits that only a hang or a machine far too small reaches; a cold build takes minutes. */
const buildTimeoutSeconds = 2400;
const testTimeoutSeconds = 3600;

/**
 * A cargo command on the native core. `--locked`: a lock file that does not fit is an error, not an edit. It takes the
 * processors that others leave: what runs beside it waits for things to happen, with limits on the wait.
 */
export function cargo(...args: string[]): string[] {
  const [command = '', ...rest] = args;
  return ['nice', 'cargo', command, '--manifest-path', 'native/Cargo.toml', ...rest];
}

/** The environment of every cargo command. */
export function cargoEnvironment(): Record<string, string> {
  return { CARGO_TARGET_DIR: cargoTargetDirectory(), CARGO_TERM_COLOR: 'never' };
}

/** Installs what the native build needs. */
export const toolchainStage: Stage = {
  name: 'native toolchain',
  run: async (logFile) => {
    await ensureNativeToolchain(logFile);
    return { passed: 1, failed: 0 };
  },
};

const needs = [toolchainStage.name];

/** The test program of {@link smallScopeStage}, as fast as it gets and with every check. */
export const smallScope = ['--profile', 'simulation', '--features', 'simulation', '--test', 'small_scope'];

/** rustfmt in check mode. */
export const rustFormatStage = commandStage('rust format', cargo('fmt', '--check'), {
  needs,
  timeoutSeconds: 120,
});

/** clippy over everything, tests too; a warning is an error. */
export const clippyStage = commandStage(
  'rust lint',
  cargo('clippy', '--locked', '--all-targets', '--features', 'simulation', '--', '-D', 'warnings'),
  { needs, env: cargoEnvironment(), timeoutSeconds: buildTimeoutSeconds },
);

/** The tests that stand beside the source. */
export const rustUnitStage = cargoTestStage('rust unit tests', ['--lib']);

/**
 * The simulator (native/tests/simulation): the core with the simulator's hooks, optimised and with every assertion. What
 * follows `--` is the simulator's.
 */
export const simulator = cargo(
  'test',
  '--locked',
  '--profile',
  'simulation',
  '--features',
  'simulation',
  '--test',
  'simulation',
);

/**
 * The simulation: the fixed seeds, and a fresh one that is printed so that `npm run simulate -- --seed N` can repeat it;
 * coverage of the lifecycle; the simulator's own tests. Then the tests of what the hot path allocates.
 */
export const simulationStage: Stage = {
  name: 'simulation',
  needs,
  async run(logFile) {
    const exitCode = await runLogged([...simulator, '--', '--check'], logFile, {
      env: cargoEnvironment(),
      timeoutSeconds: testTimeoutSeconds,
    });
    const output = tail(logFile, Number.MAX_SAFE_INTEGER);
    for (const line of output.match(/^simulation: .*$/gm) ?? []) console.log(`  ${line}`);
    const programs = ['controller_allocations', 'io_allocations', 'poller_allocations'];
    const others = await cargoTestStage(
      'allocations',
      programs.flatMap((program) => ['--test', program]),
    ).run(`${logFile}.others`);
    return addTallies([tallyLibtest(output, exitCode), others]);
  },
};

/** Every interleaving of a small scope. Its figures are in the log. */
export const smallScopeStage: Stage = {
  name: 'small scope',
  needs,
  async run(logFile) {
    const tally = await cargoTestStage('small scope', smallScope).run(logFile);
    for (const line of tail(logFile, Number.MAX_SAFE_INTEGER).match(/^small scope: Wanted.*$/gm) ?? [])
      console.log(`  ${line}`);
    return tally;
  },
};

/**
 * What taking queue pairs down costs has to be linear in what is in flight: instructions, counted by callgrind. The
 * figures are in the log.
 */
export const drainCostStage: Stage = {
  name: 'drain cost',
  needs,
  async run(logFile) {
    await ensurePackages(['valgrind'], logFile);
    const bench = cargo('bench', '--locked', '--bench', 'drain', '--', '--check');
    const exitCode = await runLogged(bench, logFile, {
      env: cargoEnvironment(),
      timeoutSeconds: testTimeoutSeconds,
    });
    const growth = / *(\w+): one more queue pair costs .*/g;
    for (const line of tail(logFile, Number.MAX_SAFE_INTEGER).match(growth) ?? []) console.log(line);
    return tallyStep(exitCode);
  },
};

/** Builds the core in release mode and puts it where the dataplane looks for it. */
export const nativeBuildStage: Stage = {
  name: 'native release build',
  needs,
  run: async (logFile) => {
    await buildNative(logFile);
    return { passed: 1, failed: 0 };
  },
};

/** See {@link nativeBuildStage}. Rejects if the build fails. */
export async function buildNative(logFile: string): Promise<void> {
  const exitCode = await runLogged(cargo('build', '--locked', '--release'), logFile, {
    env: cargoEnvironment(),
    timeoutSeconds: buildTimeoutSeconds,
  });
  if (exitCode !== 0) {
    throw new Error(`the native build failed with exit status ${exitCode}:\n${tail(logFile, 3000)}`);
  }
  mkdirSync(dirname(nativeLibraryPath), { recursive: true });
  // A process may have the old library mapped: replace the name, never the file under it.
  const fresh = `${nativeLibraryPath}.new`;
  copyFileSync(join(cargoTargetDirectory(), 'release/libweir_core.so'), fresh);
  renameSync(fresh, nativeLibraryPath);
}

function cargoTestStage(name: string, args: string[]): Stage {
  return {
    name,
    needs,
    run: async (logFile) => {
      const exitCode = await runLogged(cargo('test', '--locked', '--no-fail-fast', ...args), logFile, {
        env: cargoEnvironment(),
        timeoutSeconds: testTimeoutSeconds,
      });
      return tallyLibtest(tail(logFile, Number.MAX_SAFE_INTEGER), exitCode);
    },
  };
}
