// New events as they come: server-sent events that go on where they stopped.

import { address, get, type Info, type Params, type Summary } from "./api";

export type Connection = "connecting" | "live" | "lost";

export interface Handlers {
  events: (events: Summary[]) => void;
  connection: (state: Connection) => void;
  /** What was missed cannot be had from the stream: load the list again. */
  gap: () => void;
}

/** Events are handed on together, so that a burst is drawn once. */
const GATHER_MS = 120;

/** A hidden page gives its connection back after this long. */
const HIDDEN_MS = 60_000;

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 15_000;

export class Stream {
  #source: EventSource | null = null;
  #last = "";
  #waiting: Summary[] = [];
  #gather: ReturnType<typeof setTimeout> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #hide: ReturnType<typeof setTimeout> | undefined;
  #pause = FIRST_RETRY_MS;
  #isLost = false;
  #closed = false;

  constructor(
    private readonly params: Params,
    private readonly handlers: Handlers,
  ) {
    document.addEventListener("visibilitychange", this.#visibility);
    this.#open();
  }

  close(): void {
    this.#closed = true;
    document.removeEventListener("visibilitychange", this.#visibility);
    this.#stop();
    clearTimeout(this.#gather);
    clearTimeout(this.#hide);
  }

  #stop(): void {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  #open(): void {
    this.#stop();
    this.handlers.connection("connecting");
    const source = new EventSource(address("/v1/events/stream", { ...this.params, last_event_id: this.#last }));
    this.#source = source;
    source.onopen = () => {
      this.#pause = FIRST_RETRY_MS;
      // Without an event so far there was no place to go on from.
      if (this.#isLost && this.#last === "") this.handlers.gap();
      this.#isLost = false;
      this.handlers.connection("live");
    };
    source.addEventListener("event", (message: MessageEvent<string>) => {
      this.#last = message.lastEventId;
      this.#waiting.push(JSON.parse(message.data) as Summary);
      this.#gather ??= setTimeout(() => {
        this.#gather = undefined;
        this.handlers.events(this.#waiting.splice(0));
      }, GATHER_MS);
    });
    source.onerror = () => {
      if (this.#source !== source) return;
      this.#isLost = true;
      this.handlers.connection("lost");
      // The browser itself goes on after a lost connection, with the last id; after a refusal it does not.
      if (source.readyState === EventSource.CLOSED) void this.#recover();
    };
  }

  /** After a refusal: the session is over, the server has no room, or it does not know the place any more. */
  async #recover(): Promise<void> {
    this.#stop();
    try {
      await get<Info>("/v1/info");
      this.#last = "";
    } catch {
      // Not there, or signed out; the caller knows of the latter.
    }
    if (this.#closed) return;
    this.#retry = setTimeout(() => this.#open(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, LONGEST_RETRY_MS);
  }

  #visibility = (): void => {
    clearTimeout(this.#hide);
    if (document.hidden) this.#hide = setTimeout(() => this.#stop(), HIDDEN_MS);
    else if (this.#source === null && !this.#closed) {
      this.#isLost = true;
      this.#open();
    }
  };
}
