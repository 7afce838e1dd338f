import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { LabError } from './errors.ts';
import { Lab, type LinkSide } from './lab.ts';

const lab = Lab.open({ log: (line) => process.stderr.write(`${line}\n`) });
const program = new Command('lab')
  .enablePositionalOptions()
  .description('A Kubernetes cluster with RDMA nodes and Linux hosts on this machine.');

program
  .command('up')
  .description('bring up what does not run yet')
  .option('--no-cluster', 'guests only, without Kubernetes')
  .addOption(new Option('--hosts <number>', 'Linux hosts').default(1).argParser(Number))
  .addOption(new Option('--nodes <number>', 'nodes').default(1).argParser(Number))
  .action(async (options: { cluster: boolean; hosts: number; nodes: number }) => {
    await lab.up(options);
    printStatus();
  });

program
  .command('down')
  .description('end everything')
  .action(() => lab.down());

program
  .command('status')
  .description('show what runs')
  .option('--json', 'for programs')
  .action((options: { json?: true }) => {
    if (options.json) {
      process.stdout.write(`${JSON.stringify(lab.status(), null, 2)}\n`);
    } else {
      printStatus();
    }
  });

program
  .command('exec')
  .description('run a command in a guest')
  .argument('<guest>')
  .argument('<command...>')
  .passThroughOptions()
  .action(async (guest: string, argv: string[]) => {
    const command = lab.spawn(guest, argv, {
      stdout: (chunk) => process.stdout.write(chunk),
      stderr: (chunk) => process.stderr.write(chunk),
    });
    process.stdin.on('data', (chunk) => void command.write(chunk));
    process.stdin.on('end', () => command.endInput());
    process.exitCode = await command.exited;
    process.stdin.destroy();
  });

program
  .command('link')
  .description('take the RDMA link of a guest down or up')
  .argument('<guest>')
  .argument('<up|down>')
  .addOption(
    new Option('--from <side>', 'by the guest itself, or at the cable').choices(['inside', 'outside']),
  )
  .action((guest: string, state: 'up' | 'down', options: { from?: LinkSide }) =>
    lab.link(guest, state, options),
  );

program
  .command('prometheus')
  .description("start a Prometheus with the chart's monitors and alerts, and print where it is")
  .addOption(new Option('--namespace <name>', 'where the chart is installed').default('weir-system'))
  .addOption(new Option('--interval <duration>', 'how often rules are evaluated').default('15s'))
  .option('--set <value...>', 'values of the chart, as helm takes them')
  .action(async (options: { namespace: string; interval: string; set?: string[] }) => {
    const values = Object.fromEntries(
      (options.set ?? []).map((pair) => [pair.replace(/=.*/s, ''), pair.replace(/^[^=]*=/, '')]),
    );
    const { url } = await lab.startPrometheus({ ...options, values });
    process.stdout.write(`${url}\n`);
  });

program
  .command('kubeconfig')
  .description("print the path of the administrator's kubeconfig")
  .action(() => {
    process.stdout.write(`${lab.kubeconfigPath}\n`);
  });

program
  .command('kubectl')
  .description("run kubectl as the cluster's administrator")
  .argument('<arguments...>')
  .passThroughOptions()
  .allowUnknownOption()
  .action(async (args: string[]) => {
    process.stdout.write(`${await lab.kubectl(args, { timeoutSeconds: 600 })}\n`);
  });

program
  .command('logs')
  .description('list the logs, or print one')
  .argument('[name]')
  .action((name?: string) => {
    const logs = lab.logs();
    if (name === undefined) {
      process.stdout.write(
        Object.entries(logs)
          .map(([known, path]) => `${known}\t${path}\n`)
          .join(''),
      );
      return;
    }
    const path = logs[name];
    if (path === undefined) {
      throw new LabError('NotRunning', `no log ${name}; there are: ${Object.keys(logs).join(', ')}`);
    }
    process.stdout.write(readFileSync(path));
  });

program
  .command('image')
  .description("build the repository's image")
  .action(async () => {
    process.stdout.write(`${(await lab.buildImage()).image}\n`);
  });

program
  .command('load')
  .description("build the repository's image and put it into the nodes")
  .action(async () => {
    const layout = await lab.buildImage();
    await lab.loadImage(layout);
    process.stdout.write(`${layout.image}\n`);
  });

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof LabError)) {
    throw error;
  }
  process.stderr.write(`lab: ${error.message}\n`);
  process.exitCode = 1;
}

function printStatus(): void {
  const { guests, controlPlane, prometheus } = lab.status();
  const line = (name: string, running: boolean, more: string): string =>
    `${name.padEnd(24)} ${(running ? 'running' : 'down').padEnd(8)} ${more}\n`;
  for (const { name, running, rdmaAddress, hostNqn } of guests) {
    process.stdout.write(line(name, running, `${rdmaAddress}  ${hostNqn}`));
  }
  for (const { name, running } of controlPlane) {
    process.stdout.write(line(name, running, ''));
  }
  if (controlPlane.every((part) => part.running)) {
    process.stdout.write(`${'kubeconfig'.padEnd(24)} ${lab.kubeconfigPath}\n`);
  }
  if (prometheus !== undefined) process.stdout.write(line('prometheus', true, prometheus));
}
