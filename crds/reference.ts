/** The API reference (docs/reference/api.md), written from the same schemas as the CRDs. */
import { GROUP, VERSION } from './api-group.ts';
import {
  DEGRADED_REASONS,
  DEVICE_REASONS,
  FAREWELL_REASONS,
  LINK_REASONS,
  NODE_CONDITIONS,
  PROGRESS_REASONS,
  REFUSAL_REASONS,
  SILENCE_REASONS,
  TARGET_CONDITIONS,
} from './condition-reasons.ts';
import { type ApiKind, customResourceDefinition } from './custom-resource-definition.ts';
import type { StructuralSchema } from './openapi.ts';

function typeOf(schema: StructuralSchema): string {
  if (schema.items !== undefined) return `[]${typeOf(schema.items)}`;
  if (schema.additionalProperties !== undefined) return `map of ${typeOf(schema.additionalProperties)}`;
  return schema.format === 'date-time' ? 'time' : (schema.type ?? 'any');
}

/** Every rule of a field in words: bounds, choices, keys, expressions. */
function rulesOf(schema: StructuralSchema): string[] {
  const words: string[] = [];
  if (schema.enum !== undefined)
    words.push(`one of ${schema.enum.map((value) => `\`${String(value)}\``).join(', ')}`);
  if (schema.minimum !== undefined && schema.maximum !== undefined) {
    words.push(`${schema.minimum} to ${schema.maximum}`);
  } else if (schema.minimum !== undefined) {
    words.push(`at least ${schema.minimum}`);
  }
  if (schema.multipleOf !== undefined) words.push(`a multiple of ${schema.multipleOf}`);
  if (schema.minItems !== undefined) words.push(`at least ${schema.minItems} items`);
  if (schema.maxItems !== undefined) words.push(`at most ${schema.maxItems} items`);
  if (schema.maxLength !== undefined) words.push(`at most ${schema.maxLength} characters`);
  const keys = schema['x-kubernetes-list-map-keys'];
  if (keys !== undefined) words.push(`unique by \`${keys.join('`, `')}\``);
  for (const rule of schema['x-kubernetes-validations'] ?? []) words.push(rule.message);
  return words;
}

function escapeCell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

function defaultOf(schema: StructuralSchema): string {
  const { default: value } = schema;
  const isEmptyObject = typeof value === 'object' && value !== null && Object.keys(value).length === 0;
  if (value === undefined || isEmptyObject) return '';
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}

function rows(schema: StructuralSchema, path: string): string[] {
  const lines: string[] = [];
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    const childPath = path === '' ? name : `${path}.${name}`;
    const required = schema.required?.includes(name) === true ? ' (required)' : '';
    const about = [child.description ?? '', ...rulesOf(child).map((words) => `${words}.`)].join(' ').trim();
    const itemRules = child.items === undefined ? [] : rulesOf(child.items).map((words) => `${words}.`);
    const text = escapeCell([about, ...itemRules].join(' ').trim());
    lines.push(`| \`${childPath}\`${required} | ${typeOf(child)} | ${defaultOf(child)} | ${text} |`);
    lines.push(...rows(child.items ?? child, child.items === undefined ? childPath : `${childPath}[]`));
  }
  return lines;
}

function section(kind: ApiKind): string {
  const schema = customResourceDefinition(kind).spec.versions[0]?.schema.openAPIV3Schema ?? {};
  const part = (name: string) => [
    `### ${name}`,
    '',
    '| Field | Type | Default | Meaning and rules |',
    '| --- | --- | --- | --- |',
    ...rows({ properties: { [name]: schema.properties?.[name] ?? {} } }, ''),
    '',
  ];
  const columns = kind.columns.map((column) =>
    column.priority === 1 ? `${column.name} (wide)` : column.name,
  );
  return [
    `## ${kind.kind}`,
    '',
    schema.description ?? '',
    '',
    `Short name \`${kind.shortName}\`. Columns of \`kubectl get ${kind.shortName}\`: ${columns.join(', ')}.`,
    '',
    ...(schema['x-kubernetes-validations'] ?? []).map((rule) => `Rule: ${rule.message}.\n`),
    ...part('spec'),
    ...part('status'),
  ].join('\n');
}

function table(first: string, rowsOf: Readonly<Record<string, string>>): string[] {
  const lines = Object.entries(rowsOf).map(([name, meaning]) => `| \`${name}\` | ${escapeCell(meaning)} |`);
  return [`| ${first} | Meaning |`, '| --- | --- |', ...lines, ''];
}

function conditions(): string {
  return [
    '## Conditions of an NvmeofTarget',
    '',
    ...table('Type', TARGET_CONDITIONS),
    '### Reasons of `Accepted=False`',
    '',
    ...table('Reason', REFUSAL_REASONS),
    '### Reasons of `Progressing`',
    '',
    "A container that cannot start shows with the kubelet's own reason, like `ImagePullBackOff`.",
    '',
    ...table('Reason', PROGRESS_REASONS),
    '## Conditions of an NvmeofTargetNode',
    '',
    'Those that both kinds have are rolled up: one node is enough for the target to say that something is wrong, with',
    'the reason of the first such node and the names and messages of up to three.',
    '',
    ...table('Type', NODE_CONDITIONS),
    '### Reasons of `LinksUp`',
    '',
    ...table('Reason', LINK_REASONS),
    '### Reasons of `DeviceHealthy`',
    '',
    ...table('Reason', DEVICE_REASONS),
    '### Reasons of `Degraded`',
    '',
    ...table('Reason', DEGRADED_REASONS),
    '### While no dataplane reports',
    '',
    'Every condition is `Unknown`, every port and namespace too, and no hosts are listed. The dataplane says so itself',
    'when it leaves and knows why:',
    '',
    ...table('Reason', FAREWELL_REASONS),
    'The operator says so in its place when it ended without a last word, and before it has reported for the first time:',
    '',
    ...table('Reason', SILENCE_REASONS),
  ].join('\n');
}

/** The whole page. */
export function apiReference(kinds: readonly ApiKind[]): string {
  return [
    '# API reference',
    '',
    `Group \`${GROUP}\`, version \`${VERSION}\`. Both kinds are namespaced and belong to the category \`weir\`:`,
    '`kubectl get weir` lists them all. Generated from the schemas in `crds/`; `npm run generate` writes it anew.',
    '',
    'Fields without "(required)" may be left out.',
    '',
    ...kinds.map(section),
    conditions(),
  ].join('\n');
}
