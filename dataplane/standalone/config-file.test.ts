import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigFileError, parseConfig, readConfigText } from './config-file.ts';

const good = `# a target on one machine
nodeName: node-a
target: storage/fast
listeners:
  - name: storage
    addressFrom: {address: 10.9.0.1}
subsystems:
  - nqn: nqn.2026-11.dev.weir:fast
    access:
      hosts:
        - nqn: nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555
    namespaces:
      - nsid: 1
        backend:
          memory: {sizeBytes: 1073741824}
`;

function problem(text: string): string {
  try {
    parseConfig(text, '/etc/weir/target.yaml');
  } catch (error) {
    if (error instanceof ConfigFileError) return error.message;
    throw error;
  }
  return 'no problem';
}

describe('a configuration file', () => {
  it('is a spec of an NvmeofTargetNode, with the defaults filled in', () => {
    const spec = parseConfig(good, 'target.yaml');
    expect(spec.listeners[0]).toMatchObject({ name: 'storage', port: 4420, addressFamily: 'IPv4' });
    expect(spec.queues.queueDepth).toBe(128);
  });

  it('that is no YAML is refused with line and column', () => {
    expect(problem(good.replace('{address: 10.9.0.1}', '{address: 10.9.0.1'))).toMatch(
      /^target\.yaml:\d+:\d+: not valid YAML: /,
    );
  });

  it('with a wrong value is refused with the line and the field', () => {
    const text = good.replace('sizeBytes: 1073741824', 'sizeBytes: 0');
    expect(problem(text)).toMatch(
      /^target\.yaml:15: subsystems\[0\]\.namespaces\[0\]\.backend\.memory\.sizeBytes: /,
    );
  });

  it('with a value of the wrong type is refused with what was written', () => {
    expect(problem(good.replace('nsid: 1', 'nsid: one'))).toBe(
      'target.yaml:13: subsystems[0].namespaces[0].nsid: must be of type number, not "one"',
    );
  });

  it('with an unknown field is refused with the line of that field', () => {
    const text = good.replace('      - nsid: 1\n', '      - nsid: 1\n        readonly: true\n');
    const message = problem(text);
    expect(message).toMatch(/^target\.yaml:14: subsystems\[0\]\.namespaces\[0\]: /);
    expect(message).toContain('readonly');
  });

  it('without a required field is refused with the line of what lacks it', () => {
    expect(problem(good.replace('    addressFrom: {address: 10.9.0.1}\n', ''))).toMatch(
      /^target\.yaml:5: listeners\[0\]\.addressFrom: /,
    );
  });

  it('with a malformed NQN is refused', () => {
    expect(problem(good.replace('nqn.2026-11.dev.weir:fast', 'fast'))).toMatch(
      /^target\.yaml:8: subsystems\[0\]\.nqn: /,
    );
  });

  it('with two listeners on one address and port is refused', () => {
    const second = '  - name: second\n    addressFrom: {address: 10.9.0.1}\nsubsystems:';
    expect(problem(good.replace('subsystems:', second))).toContain('two listeners');
  });

  it('that is empty says what is expected', () => {
    expect(problem('')).toBe('target.yaml: the file is empty; the spec of an NvmeofTargetNode is expected');
  });

  it('that is a list or a text is refused', () => {
    expect(problem('- a\n')).toMatch(/^target\.yaml:1: /);
    expect(problem('hello')).toMatch(/^target\.yaml:1: /);
  });

  it('whose aliases grow without bound is refused', () => {
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x,x]\n${['b', 'c', 'd', 'e', 'f', 'g']
      .map((key, index) => {
        const previous = 'abcdef'[index];
        return `${key}: &${key} [${Array(10).fill(`*${previous}`).join(',')}]`;
      })
      .join('\n')}\n`;
    expect(problem(bomb)).toContain('not valid YAML');
  });

  it('names at most ten problems and counts the rest', () => {
    const keys = Array.from(
      { length: 12 },
      (_, index) => `  - {name: "l ${index}", port: 0, addressFrom: {}}`,
    );
    const message = problem(good.replace('subsystems:', `${keys.join('\n')}\nsubsystems:`));
    expect(message.split('\n')).toHaveLength(11);
    expect(message).toMatch(/… and \d+ more$/);
  });

  it('that is not there or is a directory is named with the reason', () => {
    const directory = mkdtempSync(join(tmpdir(), 'weir-config-'));
    expect(() => readConfigText(join(directory, 'absent.yaml'))).toThrow('there is no such file');
    expect(() => readConfigText(directory)).toThrow('it is a directory');
    writeFileSync(join(directory, 'target.yaml'), good);
    expect(readConfigText(join(directory, 'target.yaml'))).toBe(good);
  });
});
