import { describe, expect, it } from 'vitest';
import { scenarios } from './all.ts';

describe('the scenarios', () => {
  it('have names of their own, by which they can be asked for', () => {
    const names = scenarios.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).not.toContain('all');
  });

  it.each(scenarios.map((scenario) => [scenario.name, scenario] as const))(
    '%s says what it does, and flaps Weir within finite limits',
    (_name, { says, targets, limits }) => {
      expect(says.length).toBeGreaterThan(20);
      expect(targets).toContain('weir');
      expect(limits(3).restarts).toBeLessThanOrEqual(3);
    },
  );
});
