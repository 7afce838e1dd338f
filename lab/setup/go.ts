import { LabError } from '../errors.ts';
import { run } from '../system/command.ts';

/** Oldest Go that fetches the toolchain a module asks for by itself (GOTOOLCHAIN, since 1.21). */
const GO_MINOR_MIN = 21;

/** Environment for Go commands: the toolchain that go.mod asks for is fetched if the machine's is older. */
export const GO_ENVIRONMENT = { CGO_ENABLED: '0', GOTOOLCHAIN: 'auto', GOFLAGS: '-buildvcs=false' };

/** The machine's Go command, if it is new enough. */
export async function findGo(): Promise<string | undefined> {
  for (const candidate of ['go', '/usr/local/go/bin/go']) {
    try {
      const version = await run([candidate, 'version'], {
        timeoutSeconds: 20,
        env: { GOTOOLCHAIN: 'local' },
      });
      const minor = /go1\.(\d+)/.exec(version)?.[1];
      if (minor !== undefined && Number(minor) >= GO_MINOR_MIN) {
        return candidate;
      }
    } catch {
      // Not installed here.
    }
  }
  return undefined;
}

/** The machine's Go command, or an error that says what to install. */
export async function requireGo(): Promise<string> {
  const go = await findGo();
  if (go === undefined) {
    throw new LabError(
      'MissingTool',
      `no Go 1.${GO_MINOR_MIN} or newer on this machine: install Go and try again`,
    );
  }
  return go;
}
