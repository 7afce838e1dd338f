/** A refusal of the API server. */

/** The parts of metav1.Status that callers decide by. */
interface StatusBody {
  readonly reason?: string;
  readonly message?: string;
  readonly details?: { readonly retryAfterSeconds?: number };
}

function statusBody(body: string): StatusBody {
  try {
    const parsed: unknown = JSON.parse(body);
    return typeof parsed === 'object' && parsed !== null ? (parsed as StatusBody) : {};
  } catch {
    return {};
  }
}

/** The API server answered with an error. */
export class ApiError extends Error {
  /** Stable name of this kind of error. */
  readonly code = 'WEIR_API_ERROR';
  /** HTTP status. */
  readonly status: number;
  /** Machine-readable reason of metav1.Status, e.g. `Conflict`. */
  readonly reason: string;
  /** What the API server said, without the request. */
  readonly detail: string;
  /** How long the server asks to wait, if it does. */
  readonly retryAfterSeconds: number | undefined;

  /** @param request What was asked, e.g. `PATCH /api/v1/…`. */
  constructor(request: string, status: number, body: string, retryAfter?: string) {
    const parsed = statusBody(body);
    const detail = parsed.message ?? body.slice(0, 200);
    super(`${request}: ${status} ${parsed.reason ?? ''} ${detail}`.trim());
    this.name = 'ApiError';
    this.status = status;
    this.reason = parsed.reason ?? '';
    this.detail = detail;
    const seconds = Number(retryAfter ?? parsed.details?.retryAfterSeconds);
    this.retryAfterSeconds = Number.isFinite(seconds) && seconds > 0 ? seconds : undefined;
  }
}

/** The object (or its kind) does not exist. */
export function isNotFound(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404;
}

/** Somebody else changed the object meanwhile. */
export function isConflict(error: unknown): boolean {
  return error instanceof ApiError && error.status === 409;
}

/** The object is not one that the API server takes, whoever sends it and however often. */
export function isInvalid(error: unknown): error is ApiError {
  return error instanceof ApiError && error.status === 422;
}

/** The API server did not judge the request at all: out of reach, overloaded or failing. */
export function isServerTrouble(error: unknown): boolean {
  if (error instanceof ApiError) return error.status === 429 || error.status >= 500;
  // Of the system (refused, reset) or of a time limit; a defect of this program has neither.
  return (
    error instanceof Error &&
    ('syscall' in error ||
      error.name === 'TimeoutError' ||
      error.name === 'AbortError' ||
      ('code' in error && error.code === 'ECONNRESET'))
  );
}

/** The resource version is too old to watch from: list again. */
export function isExpired(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 410 || error.reason === 'Expired');
}
