/** Entry point of weir-check-installation, the pod of `helm test`. */
import { KubeConfig } from '@kubernetes/client-node';
import { Command } from 'commander';
import { ApiClient } from '../kubernetes/api-client.ts';
import { LEASE_NAME } from '../leader-election/lease.ts';
import { installationChecks } from './checks.ts';

interface Flags {
  readonly namespace: string;
  readonly deployment: string;
  readonly decoyAccount?: string;
  readonly target?: string[];
  readonly timeoutSeconds: string;
}

const flags = new Command('weir-check-installation')
  .description(
    'Looks whether an installation does its work; ends with 1 if something does not. Changes nothing.',
  )
  .requiredOption('--namespace <name>', 'namespace of the release')
  .requiredOption('--deployment <name>', "the operator's Deployment")
  .option(
    '--decoy-account <name>',
    'account that the admission policy must take for a dataplane; without: no policy',
  )
  .option('--target <namespace/name...>', 'NvmeofTargets that must be serving')
  .option('--timeout-seconds <seconds>', 'longest wait for what takes time after an installation', '60')
  .parse()
  .opts<Flags>();

const config = new KubeConfig();
config.loadFromDefault();
const api = new ApiClient(config);
const checks = installationChecks(config, api, {
  namespace: flags.namespace,
  deployment: flags.deployment,
  lease: LEASE_NAME,
  decoyAccount: flags.decoyAccount,
  targets: flags.target ?? [],
  timeoutMs: Number(flags.timeoutSeconds) * 1000,
});
let failed = 0;
for (const { name, run } of checks) {
  try {
    console.log(`ok      ${name}: ${await run()}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
console.log(failed === 0 ? `${checks.length} checks passed` : `${failed} of ${checks.length} checks failed`);
api.close();
process.exit(failed === 0 ? 0 : 1);
