// The event API, as the server answers it (GET /v1/openapi.json).

export interface Title {
  en: string;
  zh: string;
}

export type State = "responding" | "answered" | "defaulted" | "late";

export interface Summary {
  id: string;
  time: string;
  account: string;
  platform: string;
  type: string;
  title: Title;
  subject: string | null;
  state: State;
  deliveries: number;
  /** Until its first delivery was answered; null where this process does not know. */
  duration_ms: number | null;
  has_reply: boolean;
  failure: string | null;
}

/** One delivery by the platform. */
export interface Attempt {
  time: string;
  duration_ms: number;
}

export interface Observation {
  observer: string;
  state: "waiting" | "leased" | "done" | "dead";
  due: string | null;
  attempts: number;
  error: string | null;
}

export interface Story extends Summary {
  form: "xml" | "json";
  payload: string;
  data: unknown;
  /** Null for the plain success. */
  reply: string | null;
  cloudevent: unknown;
  /** The deliveries that this process remembers. */
  attempts: Attempt[];
  observations: Observation[];
}

export interface Letter {
  event: Summary;
  observer: string;
  attempts: number;
  error: string;
  died: string;
}

export interface ObserverState {
  name: string;
  internal: boolean;
  absent_since: string | null;
  pending: number;
  oldest: string | null;
  dead: number;
}

/** A refused request, or several that are alike. */
export interface Refusal {
  time: string;
  account: string | null;
  method: string;
  path: string;
  /** Names of the parameters of the query. */
  parameters: string[];
  reason: string;
  hint: string;
  step: string | null;
  client: string;
  count: number;
}

export interface Account {
  id: string;
  platform: string;
  name: string;
  /** Null over a WebSocket. */
  path: string | null;
  mode: string;
  has_secret: boolean;
  late_reply: string;
  last_event: string | null;
  deliveries: Record<string, number>;
  refused: number;
  in_flight: number;
  token: { state: string; expires: string | null } | null;
  connection: { state: string; text: string } | null;
  /** Whether requests are compared with the platform's list of addresses; `addresses` is null while no list is known. */
  source: { check: "warn" | "enforce"; addresses: number | null; fetched: string | null } | null;
  /** Of each of the last 60 minutes, the present one last. */
  rates: number[];
  latencies_ms: { p50: number; p95: number; p99: number } | null;
}

/** A forward: an observer that sends events to another server. */
export interface Forward {
  name: string;
  observer: string;
  to: string;
  state: "ok" | "slowed" | "open" | "paused";
  /** Why it is in this state, and since when. */
  why: string | null;
  since: string | null;
  /** In a row. */
  failures: number;
  last_success: string | null;
  pending: number;
  oldest: string | null;
  lag_ms: number | null;
  dead: number;
}

export interface Sample {
  form: "xml" | "json";
  payload: string;
}

export interface CatalogType {
  type: string;
  platform: string;
  name: Title;
  kind: string;
  sample: Sample | null;
}

export interface Info {
  version: string;
  started: string;
  journal: { kind: string; bytes: number; max_bytes: number };
  ready: { ok: boolean; reason: string | null };
  masked: boolean;
  /** Whether the server asks for a token. */
  token: boolean;
}

export interface SampleResult {
  status: number | null;
  reply: string | null;
  event: string | null;
  error: string | null;
}

/** What the server answers instead of a result; code 0 is no answer at all. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

const signedOut = new Set<() => void>();

/** Calls `listener` whenever the server asks for the token; returns how to stop that. */
export function onSignedOut(listener: () => void): () => void {
  signedOut.add(listener);
  return () => signedOut.delete(listener);
}

export type Params = Record<string, string | number | boolean | undefined | null>;

/** A path with those parameters that have a value. */
export function address(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== null && value !== "" && value !== false) query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

async function request<T>(method: string, url: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { method, credentials: "same-origin", redirect: "error", cache: "no-store" };
  if (signal) init.signal = signal;
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "content-type": "application/json" };
  }
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", "");
  }
  const text = await response.text();
  if (response.ok) return (text ? JSON.parse(text) : null) as T;
  if (response.status === 401 && url !== "/session") for (const listener of signedOut) listener();
  let code = `http_${response.status}`;
  let message = text.trim().slice(0, 300);
  try {
    const { error } = JSON.parse(text) as { error: { code: string; message: string } };
    ({ code, message } = error);
  } catch {
    // Not an answer of the API: a proxy's page, perhaps. Status and text say what there is to say.
  }
  throw new ApiError(response.status, code, message);
}

export const get = <T>(path: string, params?: Params, signal?: AbortSignal): Promise<T> =>
  request<T>("GET", address(path, params), undefined, signal);

export const post = <T>(path: string, body: unknown): Promise<T> => request<T>("POST", path, body);

export const signIn = (token: string): Promise<unknown> => request("POST", "/session", { token });

export const signOut = (): Promise<unknown> => request("DELETE", "/session");

export const eventPath = (id: string): string => `/v1/events/${encodeURIComponent(id)}`;

/** A page of the list; `next` is where the older ones go on. */
export interface Page {
  events: Summary[];
  next: string | null;
}

export interface DeadPage {
  letters: Letter[];
  next: string | null;
}

export interface LetterKey {
  event: string;
  observer: string;
}
