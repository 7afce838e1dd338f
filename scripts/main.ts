// The project's commands, run by run.mjs under Node.js 24.
import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { killChildren, runLogged, runVisible, tail } from './child.ts';
import {
  buildNative,
  cargo,
  cargoEnvironment,
  clippyStage,
  drainCostStage,
  nativeBuildStage,
  rustFormatStage,
  rustUnitStage,
  simulationStage,
  simulator,
  smallScope,
  smallScopeStage,
  toolchainStage,
} from './native.ts';
import { cacheDirectory, makeLogDirectory, nativeLibraryPath, repositoryRoot } from './paths.ts';
import { closeRun, runLanes } from './stages.ts';
import { ensureCargoMutants, ensureNativeToolchain, ensurePackages, ToolchainError } from './toolchain.ts';
import {
  biomeStage,
  generatedStage,
  imageStage,
  prometheusToolsStage,
  typesStage,
  vitestStage,
} from './typescript.ts';

const minute = 60;

/** What decides what becomes of I/O when a link flaps: where a change that no test notices is a gap in the tests. */
const mutatedFiles = [
  'src/lifecycle/*.rs',
  'src/engine/fence.rs',
  'src/engine/handle_index.rs',
  'src/engine/poller/close.rs',
  'src/engine/poller/drain.rs',
  'src/engine/control/drive.rs',
  'src/engine/control/quiesce.rs',
  'src/engine/control/levels.rs',
  'src/engine/control/connections.rs',
];

/** Aborted by an interrupt: what runs is ended, and nothing else begins. */
const toldToEnd = new AbortController();

const program = new Command('npm run')
  .description('Weir: build, check, test, demonstrate')
  .showHelpAfterError();

program
  .command('check')
  .description('format, lint, types and unit tests; what to run before every commit')
  .action(async () => {
    const logs = makeLogDirectory('check', new Date());
    const results = await runLanes(
      [
        [
          biomeStage,
          typesStage,
          generatedStage,
          vitestStage('unit tests', 'unit', { timeoutSeconds: 10 * minute }),
        ],
        [toolchainStage, rustFormatStage, clippyStage, rustUnitStage],
      ],
      logs,
      [],
      toldToEnd.signal,
    );
    process.exitCode = closeRun(results, logs);
  });

program
  .command('test')
  .description('everything: check, simulation, the real API server, the chart, end to end in the lab')
  .action(async () => {
    const logs = makeLogDirectory('test', new Date());
    console.log(`logs: ${logs}`);
    // The dataplane's tests load the built core; so the build comes before everything in TypeScript.
    const built = await runLanes(
      [
        [biomeStage, typesStage, generatedStage, prometheusToolsStage],
        [toolchainStage, rustFormatStage, nativeBuildStage],
      ],
      logs,
      [],
      toldToEnd.signal,
    );
    // The core's stages compute; the API server's tests mostly wait: so they end about together. The guests, which count
    // time, come alone and last.
    const tested = await runLanes(
      [
        [
          vitestStage('unit tests', 'unit', { timeoutSeconds: 10 * minute }),
          vitestStage('tests against the API server', 'cluster', {
            needs: [prometheusToolsStage.name],
            timeoutSeconds: 30 * minute,
          }),
          imageStage,
          drainCostStage,
        ],
        [clippyStage, rustUnitStage, simulationStage, smallScopeStage],
      ],
      logs,
      built,
      toldToEnd.signal,
    );
    const results = await runLanes(
      [
        [
          vitestStage('end to end in the lab', 'e2e', {
            needs: [nativeBuildStage.name, prometheusToolsStage.name, imageStage.name],
            timeoutSeconds: 80 * minute,
          }),
        ],
      ],
      logs,
      tested,
      toldToEnd.signal,
    );
    process.exitCode = closeRun(results, logs);
  });

program
  .command('build')
  .description(
    'build the native core (release) into dist/native, and the programs as the image has them into dist/js',
  )
  .action(async () => {
    const logFile = join(makeLogDirectory('build', new Date()), 'build.log');
    console.log(`building the native core … (log: ${logFile})`);
    await ensureNativeToolchain(logFile);
    await buildNative(logFile);
    console.log(`built ${nativeLibraryPath}`);
    const typesExitCode = await runVisible(['tsc', '--project', 'tsconfig.build.json']);
    process.exitCode =
      typesExitCode || (await runVisible([process.execPath, 'scripts/bundle.ts', 'dist/js']));
  });

program
  .command('simulate')
  .description('run the simulation: the fixed seeds and a fresh one, or those that are asked for')
  .option('--seeds <count>', 'so many seeds', naturalNumber)
  .option('--seed <seed>', 'the first seed; alone: only this one', naturalNumber)
  .option('--steps <count>', 'steps of trouble in each run', naturalNumber)
  .option('--report <file>', 'write what happened as JSON', (file) => resolve(file))
  .option('--threads <count>', 'default: as many as there are processors', naturalNumber)
  .option('--stimuli <numbers>', 'of what went wrong in the whole run only these')
  .option('--stop-after <steps>', 'the trouble ends after so many steps', naturalNumber)
  .option('--sooner <steps>', 'what is left of what went wrong comes so many steps earlier', naturalNumber)
  .option('--schedule <number>', "another order of turns than the seed's", naturalNumber)
  .option('--without-hosts <numbers>', 'hosts that do nothing')
  .option('--shrink-seconds <count>', 'time to spend on making a failing run shorter', naturalNumber)
  .option('--fault <name>', 'build in a deliberate fault')
  .action(async (options: Record<string, string>) => {
    await ensureNativeToolchain(join(makeLogDirectory('simulate', new Date()), 'set-up.log'));
    const given = Object.entries(options).flatMap(([name, value]) => [optionName(name), value]);
    process.exitCode = await runVisible([...simulator, '--', ...given], { env: cargoEnvironment() });
  });

program
  .command('small-scope')
  .description('try every interleaving of a small scope; `-- --help` names what it can be')
  .allowUnknownOption()
  .helpOption(false)
  .argument('[options...]')
  .action(async (options: string[]) => {
    await ensureNativeToolchain(join(makeLogDirectory('small-scope', new Date()), 'set-up.log'));
    const argv = cargo('test', '--locked', ...smallScope, '--', ...options);
    process.exitCode = await runVisible(argv, { env: cargoEnvironment() });
  });

program
  .command('scale')
  .description('the cost of the operator on simulated nodes; `-- --help` names sizes and report')
  .allowUnknownOption()
  .helpOption(false)
  .argument('[options...]')
  .action(async (options: string[]) => {
    process.exitCode = await runVisible([process.execPath, 'e2e/scale/main.ts', ...options]);
  });

program
  .command('bench')
  .description('count instructions (callgrind): of an I/O on the native hot path, and of a drain')
  .action(async () => {
    const setUpLog = join(makeLogDirectory('bench', new Date()), 'set-up.log');
    await ensureNativeToolchain(setUpLog);
    await ensurePackages(['valgrind'], setUpLog);
    process.exitCode = await runVisible(cargo('bench', '--locked'), { env: cargoEnvironment() });
  });

program
  .command('generate')
  .description(
    "write what is generated: CRDs, the chart's copy, API reference, the port's life from its reducer",
  )
  .action(async () => {
    const generator = [process.execPath, join(repositoryRoot, 'scripts/generate/main.ts')];
    process.exitCode = await runVisible(generator);
    if (process.exitCode !== 0) return;
    const logFile = join(makeLogDirectory('generate', new Date()), 'port-lifecycle.log');
    console.log(`docs/reference/port-lifecycle.md: building the core … (log: ${logFile})`);
    await ensureNativeToolchain(logFile);
    // The test that compares the page writes it when it is told to.
    const test = cargo('test', '--locked', '--lib', 'lifecycle::reference');
    const env = { ...cargoEnvironment(), WEIR_WRITE_REFERENCE: '1' };
    process.exitCode = await runLogged(test, logFile, { env, timeoutSeconds: 40 * minute });
    if (process.exitCode !== 0) console.error(tail(logFile, 3000));
  });

program
  .command('mutants')
  .description('change the lifecycle, fence and drain code one thing at a time; a test has to notice (hours)')
  .argument('[files...]', 'only these files of native/, for example src/lifecycle/reducer.rs')
  .action(async (files: string[]) => {
    const logs = makeLogDirectory('mutants', new Date());
    await ensureNativeToolchain(join(logs, 'set-up.log'));
    await ensureCargoMutants(join(logs, 'set-up.log'));
    const chosen = (files.length > 0 ? files : mutatedFiles).flatMap((file) => ['--file', file]);
    // The tests beside the source, without those that compare the generated page with docs/, which is not copied.
    const test = ['--lib', '--', 'lifecycle::', 'engine::', '--skip', 'lifecycle::reference'];
    const runner = JSON.stringify([process.execPath, join(repositoryRoot, 'scripts/first-failure.ts')]);
    const config = ['--cargo-arg=--config', `--cargo-arg=target.'cfg(all())'.runner=${runner}`];
    const argv = cargo('mutants', '--output', logs, '--jobs', '1', ...config, ...chosen, '--', ...test);
    // A directory of its own: each mutant is built on what the one before left there. Nobody debugs a mutant.
    const env = {
      ...cargoEnvironment(),
      CARGO_TARGET_DIR: join(cacheDirectory(), 'cargo-target-mutants'),
      CARGO_PROFILE_DEV_DEBUG: '0',
      CARGO_PROFILE_TEST_DEBUG: '0',
    };
    process.exitCode = await runVisible(argv, { env });
  });

/** `stopAfter` → `--stop-after`, as it was given. */
function optionName(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** Passed on as text: seeds have 64 bits. */
function naturalNumber(text: string): string {
  if (!/^\d{1,20}$/.test(text)) throw new InvalidArgumentError('a natural number is expected');
  return text;
}

/** Programs of their own, with options and help of their own: everything after the name is theirs. */
const delegates: Readonly<Record<string, { file: string; description: string }>> = {
  lab: { file: 'lab/cli.ts', description: 'the lab: up | down | status | exec | link | kubeconfig | logs' },
  flap: {
    file: 'e2e/flap/main.ts',
    description: "outages of every kind under verified I/O, beside the kernel's own target",
  },
  demo: { file: 'e2e/demo.ts', description: 'the whole path once, under link flaps' },
};
for (const [name, { description }] of Object.entries(delegates))
  program.command(name).description(description);

for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    toldToEnd.abort();
    killChildren(name);
  });
}

try {
  const [name = '', ...args] = process.argv.slice(2);
  const delegate = delegates[name];
  if (delegate === undefined) await program.parseAsync();
  else process.exitCode = await runVisible([process.execPath, join(repositoryRoot, delegate.file), ...args]);
} catch (error) {
  if (!(error instanceof ToolchainError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
