/** What is generated from the schemas: the CRDs, the chart's copy of them and the API reference. */
import { stringify } from 'yaml';
import { GROUP } from './api-group.ts';
import { API_KINDS, customResourceDefinition } from './custom-resource-definition.ts';
import { apiReference } from './reference.ts';

const HEADER = '# Generated from the schemas in crds/ by npm run generate. Do not edit.\n';

/** Every file generated from the schemas: its path relative to the repository, and its content. */
export function schemaFiles(): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const kind of API_KINDS) {
    const yaml =
      HEADER + stringify(customResourceDefinition(kind), { lineWidth: 0, aliasDuplicateObjects: false });
    const name = `${GROUP}_${kind.plural}.yaml`;
    files.set(`crds/generated/${name}`, yaml);
    files.set(`helm/weir/files/crds/${name}`, yaml);
  }
  files.set('docs/reference/api.md', apiReference(API_KINDS));
  return files;
}
