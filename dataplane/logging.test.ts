import { describe, expect, it } from 'vitest';
import { FakeCore } from './core/fake-core.ts';
import { createLogger, logCoreEvent } from './logging.ts';

function capture() {
  const lines: Record<string, unknown>[] = [];
  const logger = createLogger('info', { node: 'node-a' }, { write: (line) => lines.push(JSON.parse(line)) });
  return { lines, logger };
}

describe('logs', () => {
  it('have an event of the core as one line with its fields and level', () => {
    const { lines, logger } = capture();
    const core = new FakeCore();
    core.onEvent((event) => logCoreEvent(logger, event));
    core.emit({ type: 'linkState', level: 'warning', listener: 'storage', netdev: 'rdma0', up: false });
    core.emit({ type: 'fatal', level: 'error', message: 'the poller panicked' });
    core.emit({ type: 'fromTheFuture', answer: 42 });
    expect(lines).toMatchObject([
      {
        level: 'warn',
        event: 'linkState',
        netdev: 'rdma0',
        node: 'node-a',
        msg: 'listener storage: link rdma0 is down',
      },
      { level: 'fatal', event: 'fatal', msg: 'the poller panicked' },
      { level: 'info', event: 'fromTheFuture', answer: 42, msg: 'fromTheFuture' },
    ]);
  });

  it('say when an event happened, beside when it was written', () => {
    const { lines, logger } = capture();
    const core = new FakeCore();
    core.onEvent((event) => logCoreEvent(logger, event));
    core.emit({ type: 'linkState', timeMs: 1700000000123, listener: 'storage', netdev: 'rdma0', up: true });
    expect(lines).toMatchObject([{ event: 'linkState', timeMs: 1700000000123 }]);
  });

  it('never have secrets', () => {
    const { lines, logger } = capture();
    logger.info({ secret: 'a', host: { dhchapKey: 'b' }, request: { headers: { authorization: 'c' } } }, 'x');
    expect(JSON.stringify(lines)).not.toMatch(/"[abc]"/);
  });
});
