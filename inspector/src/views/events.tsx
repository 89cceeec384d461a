// The live list, and beside it the story of the event that is open.

import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import { get, type Page } from "../api";
import { useDirectory } from "../directory";
import { Feed, NEWEST } from "../feed";
import { useKeys } from "../keys";
import { Empty, Loading, Problem } from "../parts/bits";
import { FilterLine } from "../parts/filter";
import { EventList } from "../parts/list";
import { filter } from "../query";
import { go, href, replace, type Route } from "../router";
import { words } from "../settings";
import { type Connection, Stream } from "../stream";
import { Story } from "./story";

/** How long the writer of a filter is waited for. */
const WRITING_MS = 60;

/** How often events that are still being answered are looked at. */
const MOVING_MS = 2_000;

interface Props {
  route: Route;
  connection: (state: Connection) => void;
  refused: number;
  masked: boolean;
}

export function Events({ route, connection, refused, masked }: Props) {
  const t = words();
  const directory = useDirectory();
  const [, again] = useReducer((turn: number) => turn + 1, 0);
  const [written, setWritten] = useState(route.query.get("q") ?? "");
  const [paused, setPaused] = useState(false);
  const [top, setTop] = useState(true);
  const [cursor, setCursor] = useState<string | null>(route.id);
  const [moved, move] = useReducer((turn: number) => turn + 1, 0);

  const line = route.query.get("q") ?? "";
  useEffect(() => {
    // The address was changed by something else: a link, or the browser's back button.
    setWritten((written) => (written.trim() === line.trim() ? written : line));
  }, [line]);
  useEffect(() => {
    if (written.trim() === line.trim()) return;
    const timer = setTimeout(() => replace(href("events", route.id, { q: written.trim() })), WRITING_MS);
    return () => clearTimeout(timer);
  }, [written]);

  const params = useMemo(() => filter(line, directory.known, Date.now()).params, [line, directory]);
  const key = JSON.stringify(params);
  const feed = useMemo(() => new Feed(params, (query) => get<Page>("/v1/events", query), () => again(undefined)), [key]);
  const shown = useRef<Feed>(feed);
  // While a new filter is asked for, the old rows stay.
  if (feed.loaded || feed.error !== null) shown.current = feed;

  useEffect(() => {
    const stream = new Stream(params, {
      events: (events) => feed.arrive(events),
      connection,
      gap: () => void feed.reload(),
    });
    void feed.reload();
    setTop(true);
    const poll = setInterval(() => {
      // The stream has new events only, not what becomes of them.
      if (document.hidden || feed.loading || !(feed.isMoving() || "state" in params)) return;
      get<Page>("/v1/events", { ...params, limit: NEWEST }).then(
        ({ events }) => {
          feed.update(events);
          if ("state" in params) feed.arrive([...events].reverse());
        },
        () => {},
      );
    }, MOVING_MS);
    return () => {
      clearInterval(poll);
      stream.close();
      feed.close();
    };
  }, [feed]);
  useEffect(() => feed.hold(paused || !top), [feed, paused, top]);
  useEffect(() => {
    if (route.id !== null) setCursor(route.id);
  }, [route.id]);

  const step = (by: number) => {
    const { events } = feed;
    const at = events.findIndex(({ id }) => id === cursor);
    const next = events[at < 0 ? 0 : Math.max(0, Math.min(events.length - 1, at + by))];
    if (!next) return;
    setCursor(next.id);
    move(undefined);
    if (route.id !== null) replace(href("events", next.id, { q: line }));
  };
  const close = () => {
    if (route.id !== null) go(href("events", null, { q: line }));
    move(undefined);
  };
  useKeys({
    j: () => step(1),
    k: () => step(-1),
    ArrowDown: (event) => {
      if (!(event.target as HTMLElement).closest(".list")) return;
      event.preventDefault();
      step(1);
    },
    ArrowUp: (event) => {
      if (!(event.target as HTMLElement).closest(".list")) return;
      event.preventDefault();
      step(-1);
    },
    Enter: (event) => {
      if (event.target === document.body && cursor !== null) go(href("events", cursor, { q: line }));
    },
    Escape: close,
    p: () => setPaused(!paused),
    "/": (event) => {
      event.preventDefault();
      document.getElementById("filter")?.focus();
    },
  });

  const list = shown.current;
  const subjects = () => [...new Set(list.events.slice(0, 500).flatMap(({ subject }) => subject ?? []))];
  const isEmpty = list.events.length === 0 && list.loaded;
  return (
    <div class={`events ${route.id === null ? "" : "with-story"}`}>
      <section class="events-list" aria-label={t.views.events}>
        <div class="toolbar">
          <FilterLine line={written} change={setWritten} directory={directory} subjects={subjects} />
          <button type="button" class="pause" aria-pressed={paused} onClick={() => setPaused(!paused)}>
            <svg viewBox="0 0 12 12" aria-hidden="true">
              {paused ? <path d="M3 1.500v9l8-4.500z" /> : <path d="M2.500 1.500h2.500v9H2.500zM7 1.500h2.500v9H7z" />}
            </svg>
            <span>{paused ? t.resume : t.pause}</span>
          </button>
        </div>
        <div class="news" role="status">
          {list.held.length > 0 && (
            <button
              type="button"
              class="primary small"
              onClick={() => {
                setPaused(false);
                setTop(true);
                document.querySelector(".list .scroll")?.scrollTo({ top: 0 });
                list.release();
              }}
            >
              ↑ {t.newEvents(list.held.length, list.heldMore)}
            </button>
          )}
        </div>
        {list.error !== null && <Problem error={list.error} again={() => void feed.reload()} />}
        {!list.loaded && list.error === null && <Loading />}
        {isEmpty && line === "" && list.next === null ? (
          <Empty title={t.noEvents} text={t.noEventsText}>
            <a class="button primary" href={href("send")}>
              {t.toSend}
            </a>
            <a class="button" href={href("accounts")}>
              {t.toAccounts}
            </a>
            {refused > 0 && (
              <a class="button" href={href("refusals")}>
                {t.toRefusals(refused)}
              </a>
            )}
          </Empty>
        ) : isEmpty && list.next === null ? (
          <div class="empty small">
            <p>{t.noMatch}</p>
            <button type="button" onClick={() => setWritten("")}>
              {t.clear}
            </button>
          </div>
        ) : (
          list.loaded && (
            <EventList
              key={JSON.stringify(list === feed ? key : "")}
              feed={list}
              line={line}
              cursor={cursor}
              openId={route.id}
              atTop={setTop}
              moved={moved}
            />
          )
        )}
      </section>
      {route.id !== null && (
        <section class="events-story" aria-label={t.happened}>
          <Story key={route.id} id={route.id} close={close} directory={directory} masked={masked} />
        </section>
      )}
    </div>
  );
}
