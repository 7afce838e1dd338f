import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { DEBIAN_RELEASE, debianRoot } from '../images/debian.ts';
import { cacheDirectory } from '../paths.ts';
import type { Progress } from '../progress.ts';
import { run } from '../system/command.ts';

/** Oldest Go that fetches the toolchain a module asks for by itself (GOTOOLCHAIN, since 1.21). */
const GO_MINOR_MIN = 21;

/** Debian's package that is taken when the machine has no Go; its compiler is statically linked. */
const DEBIAN_PACKAGE = 'golang-1.24-go';
const DEBIAN_GO = 'usr/lib/go-1.24/bin/go';

/** Environment for Go commands: the toolchain that go.mod asks for is fetched if the machine's is older. */
export const GO_ENVIRONMENT = { CGO_ENABLED: '0', GOTOOLCHAIN: 'auto', GOFLAGS: '-buildvcs=false' };

/** A Go command: the machine's if it is new enough, else one from a Debian package in the cache. */
export async function goCommand(progress: Progress): Promise<string> {
  const directory = cacheDirectory('go');
  const own = join(directory, DEBIAN_RELEASE, DEBIAN_GO);
  for (const candidate of ['go', '/usr/local/go/bin/go', own]) {
    if (await isNewEnough(candidate)) {
      return candidate;
    }
  }
  await progress.step(`fetch Go (${DEBIAN_PACKAGE})`, async () => {
    const draft = join(directory, `${DEBIAN_RELEASE}.${process.pid}`);
    const log = join(directory, 'build.log');
    await debianRoot({ directory: draft, packages: [DEBIAN_PACKAGE], variant: 'extract', log });
    if (!existsSync(own)) {
      renameSync(draft, join(directory, DEBIAN_RELEASE));
    }
  });
  return own;
}

async function isNewEnough(go: string): Promise<boolean> {
  try {
    const version = await run([go, 'version'], { timeoutSeconds: 20, env: { GOTOOLCHAIN: 'local' } });
    return Number(/go1\.(\d+)/.exec(version)?.[1] ?? 0) >= GO_MINOR_MIN;
  } catch {
    // Not installed here.
    return false;
  }
}
