import type { CoreStats } from './core/stats.ts';

/** The answer to a probe. */
export interface Health {
  ok: boolean;
  /** One line for each thing that is not as it should be; for people. */
  problems: string[];
}

/**
 * Whether the process can do its work at all; Kubernetes restarts the pod when it cannot. A link, a device or a
 * namespace that is down is no reason: a restart would not bring it back and would cut the hosts on the others.
 */
export function liveness(readStats: () => CoreStats): Health {
  try {
    readStats();
    return { ok: true, problems: [] };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { ok: false, problems: [`the core does not answer: ${message}`] };
  }
}

/** Whether hosts get everything that is desired, on every listener. */
export function readiness(readStats: () => CoreStats): Health {
  let stats: CoreStats;
  try {
    stats = readStats();
  } catch {
    return liveness(readStats);
  }
  const problems: string[] = [];
  if (stats.state !== 'Running') problems.push(`the dataplane is leaving (${stats.state})`);
  if (stats.generation === 0) problems.push('no desired state is served yet');
  for (const listener of stats.listeners) {
    if (isServing(listener.phase)) continue;
    problems.push(`listener ${listener.name}: ${because(listener.phase, listener)}`);
  }
  for (const namespace of stats.namespaces) {
    if (namespace.state === 'Ready') continue;
    problems.push(
      `namespace ${namespace.nsid} of ${namespace.subsystem}: ${because(namespace.state, namespace)}`,
    );
  }
  return { ok: problems.length === 0, problems };
}

/** Whether hosts can connect to and use a port in this phase. */
export function isServing(phase: CoreStats['listeners'][number]['phase']): boolean {
  return phase === 'Serving' || phase === 'Degraded';
}

function because(state: string, { reason, message }: { reason: string; message: string }): string {
  return [state, reason, message].filter((part) => part !== '').join(': ');
}
