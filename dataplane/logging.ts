import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino';
import type { CoreEvent } from './core/events.ts';

/** Levels that may be asked for. */
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;

/** A level that may be asked for. */
export type LogLevel = (typeof logLevels)[number];

/**
 * What never reaches a log, wherever it stands: keys of hosts and tokens of the cluster. One level deeper than
 * any object that is logged on purpose.
 */
const secretFields = ['secret', 'key', 'token', 'password', 'dhchapKey', 'authorization', 'Authorization'];

/** A logger that writes JSON lines, at once: the core may end the process at any time. */
export function createLogger(
  level: LogLevel,
  bindings: Record<string, string>,
  stream: DestinationStream = destination({ fd: 1, sync: true }),
): Logger {
  return pino(
    {
      level,
      base: { component: 'dataplane', ...bindings },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: secretFields.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]),
        censor: '[redacted]',
      },
    },
    stream,
  );
}

/**
 * Writes an event of the core, with all its fields, as one line. Its `timeMs` is when it happened; the line's own
 * `time` is when it was written, which may be much later on a node without a free processor.
 */
export function logCoreEvent(logger: Logger, event: CoreEvent): void {
  const { level: _level, type, message, ...fields } = event.fields;
  const line = { event: event.type, ...fields };
  logger[pinoLevel(event)](line, typeof message === 'string' && message !== '' ? message : describe(event));
}

function pinoLevel(event: CoreEvent): LogLevel {
  if (event.type === 'fatal') return 'fatal';
  return event.level === 'warning' ? 'warn' : event.level;
}

/** A sentence for events that bring no message of their own. */
function describe(event: CoreEvent): string {
  const known = event.known;
  switch (known?.type) {
    case 'applied':
      return `desired state ${known.generation} is served`;
    case 'portPhase':
      return `listener ${known.listener}: ${known.from} → ${known.to}`;
    case 'linkState':
      return `listener ${known.listener}: link ${known.netdev} is ${known.up ? 'up' : 'down'}`;
    case 'pathsChanged':
      return `paths through this node: ${known.from} → ${known.to}`;
    case 'hostConnected':
      return `host ${known.hostNqn} connected to ${known.subsystem}`;
    case 'hostDisconnected':
      return `host ${known.hostNqn} disconnected from ${known.subsystem}`;
    case 'connectRejected':
      return `connect from ${known.source} rejected: ${known.reason}`;
    case 'namespaceState':
      return `namespace ${known.nsid} of ${known.subsystem}: ${known.state}`;
    case 'memoryRegistration':
      return `listener ${known.listener}: memory registration ${known.result}`;
    case 'drainFinished':
      return `listener ${known.listener}: drain ${known.result} after ${known.durationMs} ms`;
    case 'queuePairQuarantined':
      return `listener ${known.listener}: queue ${known.queueId} of ${known.source} quarantined`;
    case 'softDeviceRecreation':
      return `re-creation of soft RDMA device ${known.device} on ${known.netdev} ${known.result}`;
    case 'backendError':
      return `namespace ${known.nsid} of ${known.subsystem}: backend error ${known.errno}`;
    case 'drained':
      return `drain ${known.result}`;
    default:
      return event.type;
  }
}
