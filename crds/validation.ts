/** Turns what zod found wrong into lines that name the field and the way out. */
import type { z } from 'zod';

/** One thing that is wrong with an input. */
export interface Problem {
  /** The field, as kubectl writes it: `spec.listeners[0].port`. */
  readonly field: string;
  /** What is wrong, and what to write instead. */
  readonly message: string;
}

/** Problems shown before the rest is only counted: enough to fix, few enough for a condition's message. */
const PROBLEMS_SHOWN_MAX = 8;

function fieldPath(root: string, path: readonly PropertyKey[]): string {
  let text = root;
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else text += text === '' ? String(part) : `.${String(part)}`;
  }
  return text === '' ? '(document)' : text;
}

function quoted(values: readonly unknown[]): string {
  return values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join(', ');
}

function unit(origin: string): string {
  if (origin === 'string') return ' characters';
  if (origin === 'array') return ' items';
  return '';
}

function explain(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'unrecognized_keys':
      return `unknown field${issue.keys.length > 1 ? 's' : ''} ${quoted(issue.keys)}: check the spelling, or remove ${issue.keys.length > 1 ? 'them' : 'it'}`;
    case 'invalid_type':
      return issue.input === undefined
        ? `is required and missing (${issue.expected})`
        : `must be of type ${issue.expected}, not ${JSON.stringify(issue.input).slice(0, 80)}`;
    case 'invalid_value':
      return issue.values.length === 1
        ? `must be ${quoted(issue.values)}`
        : `must be one of ${quoted(issue.values)}`;
    case 'too_small':
      return `must be ${issue.inclusive === false ? 'more than' : 'at least'} ${issue.minimum}${unit(issue.origin)}`;
    case 'too_big':
      return `must be ${issue.inclusive === false ? 'less than' : 'at most'} ${issue.maximum}${unit(issue.origin)}`;
    default:
      return issue.message;
  }
}

/** Everything that is wrong, in the order of the fields. `root` is put before each path, e.g. `spec`. */
export function problemsOf(error: z.ZodError, root = ''): Problem[] {
  return error.issues.map((issue) => ({ field: fieldPath(root, issue.path), message: explain(issue) }));
}

/** The problems as one text, a line each: `spec.listeners[0].port: must be at most 65535`. */
export function formatProblems(problems: readonly Problem[]): string {
  const lines = problems.slice(0, PROBLEMS_SHOWN_MAX).map(({ field, message }) => `${field}: ${message}`);
  const hidden = problems.length - lines.length;
  if (hidden > 0) lines.push(`… and ${hidden} more`);
  return lines.join('\n');
}

/** An input that does not fit its schema. */
export class InvalidInputError extends Error {
  /** Stable name of this kind of error. */
  readonly code = 'WEIR_INVALID_INPUT';
  /** Each thing that is wrong. */
  readonly problems: readonly Problem[];

  /** @param subject What was read, e.g. the file's name. */
  constructor(subject: string, problems: readonly Problem[]) {
    super(`${subject} is not valid:\n${formatProblems(problems)}`);
    this.name = 'InvalidInputError';
    this.problems = problems;
  }
}

/** Parses `input`, or throws an {@link InvalidInputError} that says what to change. */
export function parseOrExplain<S extends z.ZodType>(
  schema: S,
  input: unknown,
  subject: string,
  root = '',
): z.output<S> {
  const result = schema.safeParse(input, { reportInput: true });
  if (result.success) return result.data;
  throw new InvalidInputError(subject, problemsOf(result.error, root));
}
