import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { cacheDirectory } from '../paths.ts';

/** QEMU's arguments for running a guest's processor. */
export interface Accelerator {
  name: 'kvm' | 'tcg';
  arguments: readonly string[];
}

/** Emulation: several times slower, works everywhere. */
const EMULATION: Accelerator = {
  name: 'tcg',
  arguments: ['-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max'],
};
const VIRTUALISATION: Accelerator = { name: 'kvm', arguments: ['-accel', 'kvm', '-cpu', 'host'] };

/** A guest reaches its first program in 1-2 s under KVM; some machines offer a KVM that never gets there. */
const PROBE_TIMEOUT_SECONDS = 8;

/**
 * KVM if a guest really boots with it, else emulation. The answer is kept until the machine boots again.
 */
export async function chooseAccelerator(kernel: string, initialRamDisk: string): Promise<Accelerator> {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const verdict = join(cacheDirectory(), 'accelerator.json');
  try {
    const kept = JSON.parse(readFileSync(verdict, 'utf8')) as { boot: string; name: string };
    if (kept.boot === boot) {
      return kept.name === 'kvm' ? VIRTUALISATION : EMULATION;
    }
  } catch {
    // Not asked yet.
  }
  const chosen = (await virtualisationWorks(kernel, initialRamDisk)) ? VIRTUALISATION : EMULATION;
  writeFileSync(verdict, JSON.stringify({ boot, name: chosen.name }), { mode: 0o600 });
  return chosen;
}

async function virtualisationWorks(kernel: string, initialRamDisk: string): Promise<boolean> {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return false;
  }
  const result = await execa(
    'qemu-system-x86_64',
    [
      ...VIRTUALISATION.arguments,
      ...['-machine', 'q35', '-m', '512', '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
      ...['-serial', 'stdio', '-kernel', kernel, '-initrd', initialRamDisk],
      ...['-append', 'console=ttyS0 panic=-1 weir.probe'],
    ],
    { reject: false, stdin: 'ignore', timeout: PROBE_TIMEOUT_SECONDS * 1000, forceKillAfterDelay: 500 },
  );
  return result.stdout.includes('weir-lab-probe-succeeded');
}
