// The rows of events. Only those in view are elements; the rest is height.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Summary } from "../api";
import { type Feed, rowsInView } from "../feed";
import { href } from "../router";
import { lang, titled, words } from "../settings";
import { duration, relative } from "../time";
import { StateBadge, Time } from "./bits";

const ROW = 34;
const TALL_ROW = 58;

/** Below this many pixels a row has two lines, and the columns no heads. */
const NARROW = 640;

/** How long a new row is marked as new. */
const FRESH_MS = 2500;

interface Props {
  feed: Feed;
  line: string;
  /** The row that keys act on. */
  cursor: string | null;
  /** The event whose story is open. */
  openId: string | null;
  /** Whether the newest event is in view. */
  atTop: (top: boolean) => void;
  /** Rises when keys have moved the cursor: the row is brought into view and focused. */
  moved: number;
}

export function EventList({ feed, line, cursor, openId, atTop, moved }: Props) {
  const t = words();
  const box = useRef<HTMLDivElement>(null);
  const handled = useRef(moved);
  const [view, setView] = useState({ top: 0, height: 800, width: 1000 });
  const isNarrow = view.width < NARROW;
  const row = isNarrow ? TALL_ROW : ROW;

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = () => setView({ top: element.scrollTop, height: element.clientHeight, width: element.clientWidth });
    const watch = new ResizeObserver(measure);
    watch.observe(element);
    measure();
    return () => watch.disconnect();
  }, []);

  const { first, last } = rowsInView(view.top, view.height, row, feed.events.length);
  const isNearEnd = view.top + 2 * view.height > feed.events.length * row;
  useEffect(() => {
    if (isNearEnd && feed.loaded && !feed.loading && feed.error === null) void feed.more();
  });

  useEffect(() => {
    const element = box.current;
    const index = feed.events.findIndex(({ id }) => id === cursor);
    // A list of another filter does not take the focus from who writes that.
    if (moved === handled.current || !element || index < 0) return;
    handled.current = moved;
    const [from, to] = [index * row, (index + 1) * row];
    if (from < element.scrollTop) element.scrollTop = from;
    else if (to > element.scrollTop + element.clientHeight) element.scrollTop = to - element.clientHeight;
    // The row may be drawn only after the list has scrolled.
    requestAnimationFrame(() => element.querySelector<HTMLElement>(`[data-id="${CSS.escape(cursor ?? "")}"]`)?.focus());
  }, [moved]);

  const scrolled = (event: { currentTarget: HTMLDivElement }) => {
    const { scrollTop: top, clientHeight: height, clientWidth: width } = event.currentTarget;
    setView({ top, height, width });
    atTop(top < row);
  };
  const query: Record<string, string> = line === "" ? {} : { q: line };
  const tabStop = feed.events.some(({ id }) => id === cursor) ? cursor : feed.events[first]?.id;
  const now = Date.now();
  return (
    <div class={`list ${isNarrow ? "narrow" : ""}`} role="table" aria-label={t.eventList} aria-rowcount={feed.next === null ? feed.events.length + 1 : -1}>
      <div role="rowgroup" class="list-head">
        <div role="row" class="row" aria-rowindex={1}>
          {(["time", "account", "type", "subject", "state", "duration"] as const).map((name) => (
            <span role="columnheader" class={`c-${name}`}>
              {t.columns[name]}
            </span>
          ))}
        </div>
      </div>
      <div class="scroll" ref={box} onScroll={scrolled} role="presentation">
        <div role="rowgroup" class="rows" style={{ height: `${feed.events.length * row}px` }}>
          <div role="presentation" style={{ transform: `translateY(${first * row}px)` }}>
            {feed.events.slice(first, last).map((event, at) => (
              <Row
                key={event.id}
                event={event}
                index={first + at + 2}
                to={href("events", event.id, query)}
                isCursor={event.id === cursor}
                isOpen={event.id === openId}
                isTabStop={event.id === tabStop}
                isFresh={now - Date.parse(event.time) < FRESH_MS}
              />
            ))}
          </div>
        </div>
        <ListEnd feed={feed} />
      </div>
    </div>
  );
}

interface RowProps {
  event: Summary;
  index: number;
  to: string;
  isCursor: boolean;
  isOpen: boolean;
  isTabStop: boolean;
  isFresh: boolean;
}

function Row({ event, index, to, isCursor, isOpen, isTabStop, isFresh }: RowProps) {
  const marks = [isCursor && "cursor", isOpen && "open", isFresh && "fresh"].filter(Boolean).join(" ");
  return (
    <div role="row" class={`row ${marks}`} aria-rowindex={index}>
      <span role="cell" class="c-time num">
        <Time at={event.time} /> <span class="quiet">{relative(event.time, Date.now(), lang())}</span>
      </span>
      <span role="cell" class="c-account">
        {event.account}
      </span>
      <span role="cell" class="c-type">
        <a href={to} data-id={event.id} tabIndex={isTabStop ? 0 : -1} {...(isOpen ? { "aria-current": "true" } : {})}>
          {titled(event.title, event.type)}
        </a>
        <code>{event.type}</code>
      </span>
      <span role="cell" class="c-subject">
        {event.subject ?? ""}
      </span>
      <span role="cell" class="c-state">
        <StateBadge state={event.state} />
        {event.deliveries > 1 && <span class="quiet num"> ×{event.deliveries}</span>}
      </span>
      <span role="cell" class="c-duration quiet num">
        {event.duration_ms === null ? "" : duration(event.duration_ms, lang())}
      </span>
    </div>
  );
}

function ListEnd({ feed }: { feed: Feed }) {
  const t = words();
  if (feed.error !== null || !feed.loaded) return null;
  if (feed.next !== null) return <p class="list-end">{t.searching}</p>;
  return feed.events.length > 0 ? <p class="list-end">{t.listEnd(feed.events.length)}</p> : null;
}
