// The list of events: pages of the past below, what comes live above.

import type { Page, Params, Summary } from "./api";

/** What comes while the list is held is kept up to here; beyond, the list is loaded anew when it goes on. */
const HELD = 1000;

/** Live events on top of the list; beyond, it starts again with one page. */
const MOST_LIVE = 5000;

/** Events of the first page, which has to be there soon: a filter that matches little is searched until it is full. */
export const FIRST = 40;

/** Events of an older page. */
export const PAGE = 200;

/** The newest events, whose state is looked at again. */
export const NEWEST = 100;

export type Fetch = (params: Params) => Promise<Page>;

export class Feed {
  events: Summary[] = [];
  /** Events that came while the list was held. */
  held: Summary[] = [];
  heldMore = false;
  next: string | null = null;
  loading = false;
  loaded = false;
  error: unknown = null;

  #known = new Set<string>();
  #live = 0;
  #holding = false;
  #closed = false;

  constructor(
    private readonly params: Params,
    private readonly fetch: Fetch,
    private readonly changed: () => void,
  ) {}

  /** The newest page, in place of what is there. */
  async reload(): Promise<void> {
    await this.#load(null);
  }

  /** The next older page. */
  async more(): Promise<void> {
    if (this.loading || this.next === null) return;
    await this.#load(this.next);
  }

  async #load(before: string | null): Promise<void> {
    this.loading = true;
    this.error = null;
    this.changed();
    try {
      const page = await this.fetch({ ...this.params, limit: before === null ? FIRST : PAGE, before });
      if (this.#closed) return;
      if (before === null) this.#start(page.events[0]?.id ?? "");
      this.events = this.events.concat(this.#fresh(page.events));
      this.next = page.next;
      this.loaded = true;
    } catch (error) {
      if (this.#closed) return;
      this.error = error;
    }
    this.loading = false;
    this.changed();
  }

  /** Empties the list, but for what has come since the page was read that begins with this event. */
  #start(newest: string): void {
    this.events = this.events.filter(({ id }) => id > newest);
    this.held = this.held.filter(({ id }) => id > newest);
    this.heldMore = false;
    this.#known = new Set([...this.events, ...this.held].map(({ id }) => id));
    this.#live = this.events.length;
  }

  /** What is still asked for is not wanted any more. */
  close(): void {
    this.#closed = true;
  }

  #fresh(events: Summary[]): Summary[] {
    return events.filter(({ id }) => !this.#known.has(id) && this.#known.add(id));
  }

  /** Events of the stream, the oldest first. */
  arrive(events: Summary[]): void {
    if (this.#holding) {
      const room = HELD - this.held.length;
      const fresh = this.#fresh(events);
      if (fresh.length > room) this.heldMore = true;
      this.held.push(...fresh.slice(0, Math.max(0, room)));
    } else {
      this.#prepend(this.#fresh(events));
    }
    this.changed();
  }

  #prepend(events: Summary[]): void {
    this.#live += events.length;
    if (this.#live > MOST_LIVE) {
      void this.reload();
      return;
    }
    // Ids sort by time: several nodes store at a time, and the list is in the order of a page.
    const top = [...events].reverse();
    this.events = top.concat(this.events);
    for (let index = 1; index < Math.min(this.events.length, top.length + 32); index += 1) {
      for (let at = index; at > 0 && this.events[at - 1]!.id < this.events[at]!.id; at -= 1) {
        [this.events[at - 1], this.events[at]] = [this.events[at]!, this.events[at - 1]!];
      }
    }
  }

  /** Keeps the list as it is while somebody reads it, or lets it go on. */
  hold(holding: boolean): void {
    if (this.#holding === holding) return;
    this.#holding = holding;
    if (!holding) this.release();
  }

  /** Shows what was held. */
  release(): void {
    const held = this.held.splice(0);
    if (this.heldMore) {
      this.heldMore = false;
      void this.reload();
      return;
    }
    if (held.length === 0) return;
    this.#prepend(held);
    this.changed();
  }

  /** Newer states of events that are in the list. */
  update(events: Summary[]): void {
    const newer = new Map(events.map((event) => [event.id, event]));
    let touched = false;
    this.events = this.events.map((event) => {
      const update = newer.get(event.id);
      if (!update || same(update, event)) return event;
      touched = true;
      return update;
    });
    if (touched) this.changed();
  }

  /** Whether the newest events may still change. */
  isMoving(): boolean {
    return this.events.slice(0, NEWEST).some((event) => event.state === "responding");
  }
}

const same = (a: Summary, b: Summary): boolean =>
  a.state === b.state && a.deliveries === b.deliveries && a.failure === b.failure && a.duration_ms === b.duration_ms && a.has_reply === b.has_reply;

/** Which rows of a list of equal heights are drawn: those in view and some around. */
export function rowsInView(top: number, height: number, row: number, rows: number): { first: number; last: number } {
  const AROUND = 12;
  const first = Math.max(0, Math.min(rows, Math.floor(top / row) - AROUND));
  return { first, last: Math.max(first, Math.min(rows, Math.ceil((top + height) / row) + AROUND)) };
}
