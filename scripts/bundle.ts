// Makes the programs as the image runs them: `node scripts/bundle.ts DIRECTORY`. Each entry point becomes one file, with
// chunks beside it for what programs share or load late; a program of a thousand small modules takes seconds to start
// on a slow machine, and a node's hosts wait for it. Not minified, so that stack traces can be read.
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { repositoryRoot } from './paths.ts';

const ENTRY_POINTS = [
  'cli/main.ts',
  'dataplane/main.ts',
  'operator/main.ts',
  'operator/installation-check/main.ts',
];

/** Loads its native addon from beside itself: it is copied whole, with the package that has the addon. */
const NATIVE_PACKAGES = ['koffi', '@koromix/koffi-linux-x64'];

/** Packages in CommonJS call `require`, which modules do not have. */
const REQUIRE = `import { createRequire as createRequireOfBundle } from 'node:module';
const require = createRequireOfBundle(import.meta.url);`;

/** Licences of everything that is in the bundle, below the directory. */
const LICENCES = 'third-party-licences.txt';

const [directory] = process.argv.slice(2);
if (directory === undefined) throw new Error('usage: node scripts/bundle.ts DIRECTORY');
const target = resolve(directory);

const { metafile } = await build({
  absWorkingDir: repositoryRoot,
  entryPoints: ENTRY_POINTS,
  outbase: '.',
  outdir: target,
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  external: ['koffi'],
  banner: { js: REQUIRE },
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
});
for (const name of NATIVE_PACKAGES) {
  cpSync(join(repositoryRoot, 'node_modules', name), join(target, 'node_modules', name), {
    recursive: true,
    // Not the addon's sources, nor the addon for another C library than Debian's.
    filter: (path) => !/\/koffi\/(?:doc|vendor|lib)$|\/musl_x64$|\.(?:cc|hh|S|d\.ts)$/.test(path),
  });
}
cpSync(join(repositoryRoot, 'package.json'), join(target, 'package.json'));
writeFileSync(join(target, LICENCES), licences(Object.keys(metafile.inputs)));

/** Texts of the licences of the packages that files belong to. Throws if a package brings none and names none. */
function licences(files: readonly string[]): string {
  const packages = new Set(files.map((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0]));
  packages.delete(undefined);
  return [...packages]
    .map((name) => licence(join(repositoryRoot, name ?? '')))
    .sort()
    .join(`\n${'='.repeat(80)}\n\n`);
}

function licence(packageDirectory: string): string {
  const { name, version, license } = JSON.parse(
    readFileSync(join(packageDirectory, 'package.json'), 'utf8'),
  ) as {
    name: string;
    version: string;
    license?: string;
  };
  const texts = readdirSync(packageDirectory)
    .filter((file) => /^(?:licen[cs]e|notice|copying)/i.test(file))
    .map((file) => readFileSync(join(packageDirectory, file), 'utf8').trim());
  if (license === undefined && texts.length === 0) throw new Error(`${name} has no licence`);
  return [`${name} ${version} (${license ?? 'see below'})`, ...texts].join('\n\n').concat('\n');
}
