import packageJson from '../../package.json' with { type: 'json' };

/** Version of the operator: the package's. */
export function operatorVersion(): string {
  return packageJson.version;
}
