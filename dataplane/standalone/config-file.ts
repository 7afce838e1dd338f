import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { type Document, isMap, isNode, LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { type NvmeofTargetNodeSpec, nvmeofTargetNodeSpecSchema } from '../../crds/nvmeof-target-node.ts';
import { problemsOf } from '../../crds/validation.ts';

/** Largest configuration file that is read: far beyond 16 listeners and 1024 namespaces. */
const configBytesMax = 4 * 1024 * 1024;

/** How many mistakes one message names. */
const shownProblemsMax = 10;

/** A configuration file cannot be used. The message has one line for each problem: `file:line: field: what`. */
export class ConfigFileError extends Error {
  readonly code = 'WEIR_CONFIG';

  constructor(problems: readonly string[]) {
    const shown = problems.slice(0, shownProblemsMax);
    const more = problems.length - shown.length;
    super([...shown, ...(more > 0 ? [`… and ${more} more`] : [])].join('\n'));
    this.name = 'ConfigFileError';
  }
}

/** Reads the file. @throws {ConfigFileError} if it cannot be read. */
export function readConfigText(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigFileError([`${path}: cannot be read: ${systemReason(error)}`]);
  }
  if (text.length > configBytesMax) {
    throw new ConfigFileError([`${path}: larger than ${configBytesMax} bytes; this is no configuration`]);
  }
  return text;
}

/**
 * Reads a desired state from YAML: exactly the spec of an NvmeofTargetNode.
 *
 * @param path names the file in messages.
 * @throws {ConfigFileError} naming line and field of every problem.
 */
export function parseConfig(text: string, path: string): NvmeofTargetNodeSpec {
  const name = basename(path);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    throw new ConfigFileError(
      document.errors.map((error) => {
        const { line, col } = lines.linePos(error.pos[0]);
        return `${name}:${line}:${col}: not valid YAML: ${error.message}`;
      }),
    );
  }
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    // An alias without an anchor, or one that would grow without bound.
    throw new ConfigFileError([
      `${name}: not valid YAML: ${error instanceof Error ? error.message : String(error)}`,
    ]);
  }
  if (value === null || value === undefined) {
    throw new ConfigFileError([`${name}: the file is empty; the spec of an NvmeofTargetNode is expected`]);
  }
  const result = nvmeofTargetNodeSpecSchema.safeParse(value, { reportInput: true });
  if (result.success) return result.data;
  const problems = problemsOf(result.error);
  throw new ConfigFileError(
    result.error.issues.map((issue, index) => {
      const { field, message } = problems[index] ?? { field: '', message: issue.message };
      const place = where(placeOf(issue), document, lines);
      return `${name}:${place}: ${field}: ${message}`;
    }),
  );
}

/** The path of what is wrong in the file: of an unknown field the field itself, not its parent. */
function placeOf(issue: z.core.$ZodIssue): (string | number)[] {
  const path = issue.path.filter((part) => typeof part !== 'symbol');
  return issue.code === 'unrecognized_keys' ? [...path, ...issue.keys.slice(0, 1)] : path;
}

/** The line of the innermost part of the path that is written in the file. */
function where(path: readonly (string | number)[], document: Document, lines: LineCounter): number {
  for (let length = path.length; length > 0; length -= 1) {
    const offset = keyOffset(document, path.slice(0, length));
    if (offset !== undefined) return lines.linePos(offset).line;
  }
  return 1;
}

/** Where a field's name stands; for a list's item, where the item does. */
function keyOffset(document: Document, path: readonly (string | number)[]): number | undefined {
  const last = path.at(-1);
  const parent = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true);
  if (isMap(parent)) {
    const pair = parent.items.find((item) => isNode(item.key) && item.key.toJSON() === last);
    return pair !== undefined && isNode(pair.key) ? pair.key.range?.[0] : undefined;
  }
  const node = document.getIn(path, true);
  return isNode(node) ? node.range?.[0] : undefined;
}

function systemReason(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code === 'ENOENT') return 'there is no such file';
  if (code === 'EACCES') return 'permission denied';
  if (code === 'EISDIR') return 'it is a directory';
  return error instanceof Error ? error.message : String(error);
}
