/** JSON logs. */
import { type Logger, pino } from 'pino';

/** Never written, wherever an object of the API or a request ends up in a log line. */
const REDACTED_PATHS = [
  'headers.authorization',
  '*.headers.authorization',
  'token',
  '*.token',
  'data',
  '*.data',
  'stringData',
  '*.stringData',
  'dhchapKey',
  '*.dhchapKey',
];

/** What pino leaves out of every line. */
export const REDACTION = { paths: REDACTED_PATHS, censor: '[redacted]' };

/** Levels that may be asked for. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;

/** Makes the operator's logger; it writes to standard output. */
export function createLogger(level: (typeof LOG_LEVELS)[number]): Logger {
  return pino({
    name: 'weir-operator',
    level,
    redact: REDACTION,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  });
}
