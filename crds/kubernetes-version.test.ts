import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');

/**
 * Minor version of Kubernetes 1 with which functions of CEL came, of those that came after 1.28. An API server takes a
 * function into new rules one release later, so that it can be rolled back.
 * @see k8s.io/apiserver/pkg/cel/environment/base.go (IntroducedVersion, DefaultCompatibilityVersion)
 */
const CEL_FUNCTIONS: readonly (readonly [RegExp, number])[] = [
  [/\bsets\.(contains|equivalent|intersects)\(/, 29],
  [/\b(isIP|ip|isCIDR|cidr)\(/, 30],
  [/\bformat\.[a-zA-Z0-9]+\(/, 31],
  [/\b(fieldSelector|labelSelector)\(/, 31],
  [/\b(transformList|transformMap|transformMapEntry)\(/, 32],
  [/\b(isSemver|semver)\(/, 33],
  [/\.(slice|flatten|distinct|sortBy|first|last)\(|\blists\.range\(/, 34],
];

function rulesOf(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  const own =
    'x-kubernetes-validations' in value ? (value['x-kubernetes-validations'] as { rule: string }[]) : [];
  return [...own.map(({ rule }) => rule), ...Object.values(value).flatMap(rulesOf)];
}

describe('the oldest Kubernetes that the chart lets in', () => {
  const oldest = Number(/^>=1\.(\d+)\./.exec(parse(read('helm/weir/Chart.yaml')).kubeVersion)?.[1]);

  it.each(['nvmeoftargets', 'nvmeoftargetnodes'])('takes every rule of %s', (plural) => {
    const rules = rulesOf(parse(read(`crds/generated/weir.dev_${plural}.yaml`)));
    expect(rules.length).toBeGreaterThan(10);
    const tooNew = CEL_FUNCTIONS.filter(([, introduced]) => oldest < introduced + 1).flatMap(([name]) =>
      rules.filter((rule) => name.test(rule)),
    );
    expect(tooNew).toEqual([]);
  });

  it('is told where people look for it', () => {
    for (const page of ['docs/reference/compatibility.md', 'docs/tutorials/first-target.md'])
      expect(read(page)).toMatch(new RegExp(`1\\.${oldest} (and|or) later`));
  });
});
