import type { Logger } from 'pino';
import { watchFile } from '../../operator/system/watch-file.ts';
import type { Dataplane } from '../dataplane.ts';
import type { DesiredState } from '../desired-state.ts';
import type { Source } from '../source.ts';
import { parseConfig, readConfigText } from './config-file.ts';

/**
 * Desired states from a file, standalone mode: read now, and again whenever it changes. A changed file that cannot
 * be used is told and counted, and what was served before is served on.
 *
 * @throws {ConfigFileError} if the file cannot be used now.
 */
export function fileSource(path: string): Source {
  const file = new ConfigFile(path);
  const first = file.load();
  return {
    identity: { target: first.spec.target, node: first.spec.nodeName },
    start(dataplane, _core, logger) {
      dataplane.apply(first);
      const watch = watchFile(path, () => file.reload(dataplane, logger));
      return { stop: () => watch.close(), finish: () => Promise.resolve() };
    },
  };
}

class ConfigFile {
  readonly #path: string;
  #text = '';
  #generation = 0;

  constructor(path: string) {
    this.#path = path;
  }

  load(): DesiredState {
    this.#text = readConfigText(this.#path);
    return this.#parse();
  }

  reload(dataplane: Dataplane, logger: Logger): void {
    try {
      const text = readConfigText(this.#path);
      // Other files of the directory change too, and editors touch what they do not change.
      if (text === this.#text) return;
      this.#text = text;
      const served = dataplane.apply(this.#parse());
      logger.info(
        { file: this.#path, generation: this.#generation, paused: !served },
        'configuration reloaded',
      );
    } catch (error) {
      // From the file or from the core: either way the message says what to change.
      const problems = (error instanceof Error ? error.message : String(error)).split('\n');
      const text = `configuration not reloaded, the last good one is served on: ${problems[0]}`;
      logger.error({ file: this.#path, problems }, text);
      dataplane.countReloadFailure();
    }
  }

  #parse(): DesiredState {
    const spec = parseConfig(this.#text, this.#path);
    this.#generation += 1;
    return { generation: this.#generation, spec };
  }
}
