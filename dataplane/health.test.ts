import { describe, expect, it } from 'vitest';
import { PORT_PHASES } from '../crds/nvmeof-target-node.ts';
import { CoreError } from './core/errors.ts';
import { sampleListener, sampleNamespace, sampleStats } from './core/fake-core.ts';
import { liveness, readiness } from './health.ts';

describe('readiness', () => {
  it('is given when every listener serves and every namespace is ready', () => {
    expect(readiness(() => sampleStats({ generation: 1 }))).toEqual({ ok: true, problems: [] });
  });

  it.each(PORT_PHASES)('with a listener in phase %s', (phase) => {
    const stats = sampleStats({ generation: 1, listeners: [sampleListener({ phase, reason: 'LinkDown' })] });
    const health = readiness(() => stats);
    const serves = phase === 'Serving' || phase === 'Degraded';
    expect(health.ok).toBe(serves);
    if (!serves) expect(health.problems).toEqual([`listener storage: ${phase}: LinkDown`]);
  });

  it('names the namespace that is not ready, and why', () => {
    const namespace = sampleNamespace({
      state: 'Failed',
      reason: 'NotABlockDevice',
      message: '/dev/x is a file',
    });
    expect(readiness(() => sampleStats({ generation: 1, namespaces: [namespace] })).problems).toEqual([
      'namespace 1 of nqn.2026-11.dev.weir:fast: Failed: NotABlockDevice: /dev/x is a file',
    ]);
  });

  it('is not given before the first desired state, nor while leaving', () => {
    expect(readiness(() => sampleStats()).ok).toBe(false);
    expect(readiness(() => sampleStats({ generation: 1, state: 'Draining' })).ok).toBe(false);
  });
});

describe('liveness', () => {
  it('does not depend on links, devices or namespaces', () => {
    const listeners = [sampleListener({ phase: 'Failed' }), sampleListener({ phase: 'Down', linkUp: false })];
    const namespaces = [sampleNamespace({ state: 'Failed' })];
    expect(liveness(() => sampleStats({ listeners, namespaces })).ok).toBe(true);
  });

  it('is lost when the core does not answer', () => {
    const health = liveness(() => {
      throw new CoreError('Panic', 'the control thread panicked');
    });
    expect(health).toEqual({
      ok: false,
      problems: ['the core does not answer: the control thread panicked'],
    });
  });
});
