import { readFileSync } from 'node:fs';

/** Version of the operator: the package's. */
export function operatorVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
