/** The server's answers, and the one way to ask for them. */

export type Session = {
  role: string;
  project: string;
  environment: string;
  name: string;
  /** Whether a person signed in, not a key. */
  person: boolean;
  permissions: string[];
  /** Of the project; a person may look at each. */
  environments: string[];
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
  erasing: boolean;
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
  expires_at: string | null;
  used_at: string | null;
  origins: string[];
  networks: string[];
  replaces: string | null;
  write_key: string | null;
};

export type Found = { rule: string; start: number; end: number; action: string };
export type Tried = { masked: string; found: Found[]; dropped: boolean; quarantined: boolean; version: string };
export type MaskingRules = {
  version: string;
  environment: string;
  from_file: boolean;
  fault: string | null;
  rules: { name: string; token: string; action: string; own: boolean }[];
};

export type Person = {
  id: string;
  email: string;
  project: string;
  role: string;
  state: "member" | "invited";
  since: string | null;
  expires_at: string | null;
  seen_at: string | null;
};

/** One of: a key; an address and a password; a link's token. */
export type Proof = { key: string } | { email: string; password: string } | { token: string; password?: string };

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

type Request = { method?: "GET" | "POST" | "PUT" | "DELETE"; body?: unknown; signal?: AbortSignal | undefined };

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
  signIn: (proof: Proof) => ask<Session>("/api/session", { method: "POST", body: proof }),
  move: (environment: string) => ask<Session>("/api/session", { method: "PUT", body: { environment } }),
  signOut: () => ask<null>("/api/session", { method: "DELETE" }),
  live: (values: { limit: number; after?: string | undefined }, signal?: AbortSignal) =>
    ask<LiveAnswer>(`/api/analytics/live${search(values)}`, { signal }),
  activity: (values: { minutes: number; top: number }, signal?: AbortSignal) =>
    ask<Activity>(`/api/analytics/activity${search(values)}`, { signal }),
  pipeline: (signal?: AbortSignal) => ask<Pipeline>("/api/analytics/pipeline", { signal }),
  trace: (eventId: string, signal?: AbortSignal) =>
    ask<Trace>(`/api/analytics/events/${encodeURIComponent(eventId)}`, { signal }),
  masking: (signal?: AbortSignal) => ask<MaskingRules>("/api/analytics/privacy/masking", { signal }),
  mask: (text: string, signal?: AbortSignal) =>
    ask<Tried>("/api/analytics/privacy/mask", { method: "POST", body: { text }, signal }),
  keys: (signal?: AbortSignal) => ask<{ keys: Key[] }>("/api/keys", { signal }),
  makeKey: (body: { role: string; origins: string[]; networks: string[]; days: number }) =>
    ask<{ key: string }>("/api/keys", { method: "POST", body }),
  rotateKey: (id: string) => ask<{ key: string }>(`/api/keys/${encodeURIComponent(id)}/rotate`, { method: "POST", body: {} }),
  revokeKey: (id: string) => ask<null>(`/api/keys/${encodeURIComponent(id)}`, { method: "DELETE" }),
  people: (signal?: AbortSignal) => ask<{ people: Person[]; gives: string[] }>("/api/people", { signal }),
  invite: (body: { email: string; role: string }) =>
    ask<{ link: string; expires_at: string }>("/api/people", { method: "POST", body }),
  signInLink: (id: string) => ask<{ link: string }>(`/api/people/${encodeURIComponent(id)}/link`, { method: "POST" }),
  changeRole: ({ id, role }: { id: string; role: string }) =>
    ask<null>(`/api/people/${encodeURIComponent(id)}`, { method: "PUT", body: { role } }),
  removePerson: (id: string) => ask<null>(`/api/people/${encodeURIComponent(id)}`, { method: "DELETE" }),
  link: (token: string) =>
    ask<{ kind: "invite" | "sign_in"; email: string; project: string; role: string }>("/api/link", { method: "POST", body: { token } }),
} as const;
