/** The server's answers, and the one way to ask for them. */

export type Session = {
  role: string;
  project: string;
  environment: string;
  name: string;
  /** Whether this service serves the demo too. */
  demo: boolean;
};

export type Identity = "verified" | "server" | "claimed" | "anonymous";
export type Masked = { field: string; rule: string };

export type LiveRow = {
  event_id: string;
  event_name: string;
  event_timestamp: string;
  server_timestamp: string;
  user_id: string | null;
  anonymous_id: string | null;
  session_id: string | null;
  thread_id: string | null;
  event_value: string | null;
  identity: Identity;
  masked: Masked[];
  is_bot: boolean;
  source: string;
};
export type LiveAnswer = { cursor: string; as_of: string; events: LiveRow[] };

export type Activity = {
  as_of: string;
  minutes: string[];
  series: { event_name: string; counts: (number | null)[] }[];
  unfinished: boolean;
};

export type Outcome = "accepted" | "duplicate" | "rejected" | "dropped" | "retry" | "quarantined" | "expired" | "erased";
export type Pipeline = {
  as_of: string;
  received: number;
  accepted: number;
  duplicate: number;
  rejected: number;
  dropped: number;
  retry: number;
  reasons: { outcome: string; reason: string; count: number }[];
  in_spool: number;
  stored: number;
  expired: number;
  quarantined: number;
  erased: number;
  lag_seconds: number;
  spool_bytes: number;
  balance: { holds: boolean; difference: number };
  store: { engine: string; ok: boolean; error: string | null };
  latency_seconds: { p50: number; p95: number; p99: number } | null;
  started_at: string;
};

export type Fate = "stored" | "in_spool" | "quarantined" | "gone" | "refused" | "dropped" | "duplicate";
export type Stage = { name: string; at: string | null; detail: string };
export type Receipt = { vendor: string; status: string; at: string };
export type Trace = {
  event_id: string;
  fate: Fate;
  reason: string | null;
  stages: Stage[];
  event: Record<string, unknown> | null;
  masked: Masked[];
  receipts: Receipt[];
};

export type Key = {
  id: string;
  role: string;
  project: string;
  environment: string;
  prefix: string;
  created_at: string;
  revoked_at: string | null;
  write_key: string | null;
};

/** Why a question has no answer. `status` is 0 where no answer came at all. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string | null = null,
  ) {
    super(message);
  }
}

/** Whether no answer came at all. The frame says that once for the whole page. */
export const isSilent = (error: unknown): boolean => error instanceof ApiError && error.status === 0;

/** How long a question may take before the page says so. Milliseconds. */
const PATIENCE = 15_000;

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

/** Reads the server's one error shape, and says something useful where a proxy answered in its place. */
export const readError = (status: number, body: unknown): ApiError => {
  const error = isObject(body) && isObject(body.error) ? body.error : null;
  if (error && typeof error.message === "string") {
    const code = typeof error.code === "string" ? error.code : "error";
    return new ApiError(status, code, error.message, typeof error.hint === "string" && error.hint ? error.hint : null);
  }
  return new ApiError(
    status,
    "unreadable",
    `The answer (HTTP ${status}) did not come from Twintrack.`,
    "A proxy may stand between this page and the server.",
  );
};

const parse = (text: string): { ok: true; value: unknown } | { ok: false } => {
  try {
    return { ok: true, value: JSON.parse(text) };
  } catch {
    return { ok: false };
  }
};

type Request = { method?: "GET" | "POST" | "DELETE"; body?: unknown; signal?: AbortSignal | undefined };

/** Asks the server once. Resolves with the decoded body, or null for 204; rejects with an ApiError only. */
const ask = async <Answer>(path: string, { method = "GET", body, signal }: Request = {}): Promise<Answer> => {
  const patience = AbortSignal.timeout(PATIENCE);
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, {
      method,
      credentials: "same-origin",
      cache: "no-store",
      headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    text = await response.text();
  } catch (cause) {
    // The page moved on and no longer wants the answer; the query cache knows this error and keeps quiet.
    if (signal?.aborted) throw cause;
    if (patience.aborted) {
      throw new ApiError(0, "timeout", `No answer within ${PATIENCE / 1000} seconds.`, "The server may be busy; try again.");
    }
    throw new ApiError(0, "unreachable", "The server cannot be reached.", "Is `twintrack serve` running?");
  }
  if (response.status === 204) return null as Answer;
  const parsed = parse(text);
  if (!response.ok) throw readError(response.status, parsed.ok ? parsed.value : null);
  if (!parsed.ok) throw readError(response.status, null);
  return parsed.value as Answer;
};

const search = (values: Record<string, string | number | undefined>): string => {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined) parameters.set(name, String(value));
  return parameters.size > 0 ? `?${parameters}` : "";
};

export const api = {
  session: (signal?: AbortSignal) => ask<Session>("/api/session", { signal }),
  signIn: (key: string) => ask<Session>("/api/session", { method: "POST", body: { key } }),
  signOut: () => ask<null>("/api/session", { method: "DELETE" }),
  live: (values: { limit: number; after?: string | undefined }, signal?: AbortSignal) =>
    ask<LiveAnswer>(`/api/analytics/live${search(values)}`, { signal }),
  activity: (values: { minutes: number; top: number }, signal?: AbortSignal) =>
    ask<Activity>(`/api/analytics/activity${search(values)}`, { signal }),
  pipeline: (signal?: AbortSignal) => ask<Pipeline>("/api/analytics/pipeline", { signal }),
  trace: (eventId: string, signal?: AbortSignal) =>
    ask<Trace>(`/api/analytics/events/${encodeURIComponent(eventId)}`, { signal }),
  keys: (signal?: AbortSignal) => ask<{ keys: Key[] }>("/api/keys", { signal }),
} as const;
