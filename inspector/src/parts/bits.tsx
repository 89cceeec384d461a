// Small parts that every view uses.

import type { ComponentChildren } from "preact";
import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import { ApiError, type Observation, type State } from "../api";
import { lang, words } from "../settings";
import { fullTime, relative, shortTime } from "../time";

/** Renders again every so often, so that "3 min ago" stays true. */
export function useNow(every = 10_000): number {
  const [, again] = useReducer((turn: number) => turn + 1, 0);
  useEffect(() => {
    const timer = setInterval(() => again(undefined), every);
    return () => clearInterval(timer);
  }, [every]);
  return Date.now();
}

/** What the server answers, asked again every so often while the page is seen. */
export function useServer<T>(ask: (signal: AbortSignal) => Promise<T>, key: string, every = 0) {
  const [answer, setAnswer] = useState<{ key: string; value: T | null; error: unknown }>();
  const [turn, again] = useReducer((turn: number) => turn + 1, 0);
  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const once = async () => {
      try {
        const value = await ask(abort.signal);
        if (!abort.signal.aborted) setAnswer({ key, value, error: null });
      } catch (error) {
        // What was there stays: an old answer with a note is better than none.
        if (!abort.signal.aborted)
          setAnswer((old) => ({ key, value: old?.key === key ? old.value : null, error }));
      }
      if (every > 0 && !abort.signal.aborted) timer = setTimeout(tick, every);
    };
    const tick = () => {
      if (document.hidden) timer = setTimeout(tick, every);
      else void once();
    };
    void once();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, every, turn]);
  const current = answer?.key === key ? answer : undefined;
  return { value: current?.value ?? null, error: current?.error ?? null, again: () => again(undefined) };
}

/** What went wrong, for people. */
export function reason(error: unknown): string {
  if (error instanceof ApiError) {
    if (error.status === 0) return words().unreachable;
    return error.message ? `${error.message}` : `HTTP ${error.status} ${error.code}`;
  }
  return error instanceof Error ? error.message : String(error);
}

export function Problem({ error, again }: { error: unknown; again?: () => void }) {
  const t = words();
  return (
    <div class="notice bad" role="alert">
      <span>{reason(error)}</span>
      {again && (
        <button type="button" class="small" onClick={again}>
          {t.retry}
        </button>
      )}
    </div>
  );
}

export const Loading = () => (
  <p class="quiet pad" role="status">
    {words().loading}
  </p>
);

export function Time({ at, both = false }: { at: string; both?: boolean }) {
  const now = Date.now();
  return (
    <time dateTime={at} title={fullTime(at)}>
      {both ? fullTime(at) : shortTime(at, now)}
      {both && <span class="quiet"> · {relative(at, now, lang())}</span>}
    </time>
  );
}

export const Ago = ({ at }: { at: string }) => (
  <time dateTime={at} title={fullTime(at)}>
    {relative(at, Date.now(), lang())}
  </time>
);

/** A sentence around a time that stays up to date. */
export function AgoIn({ sentence, at }: { sentence: (time: string) => string; at: string }) {
  const [before = "", after = ""] = sentence("\0").split("\0");
  return (
    <>
      {before}
      <Ago at={at} />
      {after}
    </>
  );
}

export const StateBadge = ({ state }: { state: State }) => (
  <span class={`badge is-${state}`}>{words().states[state] ?? state}</span>
);

export const ObservationBadge = ({ state }: { state: Observation["state"] }) => (
  <span class={`badge is-${state}`}>{words().observation[state] ?? state}</span>
);

export function Empty({ title, text, children }: { title: string; text?: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <svg class="waves" viewBox="0 0 96 48" aria-hidden="true">
        <path d="M8 24h14l5-13 8 26 7-20 5 12 4-5h37" />
      </svg>
      <h2>{title}</h2>
      {text && <p>{text}</p>}
      {children && <div class="actions">{children}</div>}
    </div>
  );
}

/** Copies; where the browser does not allow it (no TLS), the text is shown, selected. */
export function Copy({ text, label, class: kind = "small" }: { text: () => string; label?: string; class?: string }) {
  const t = words();
  const [state, setState] = useState<"" | "done" | "failed">("");
  const shown = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (state === "failed") shown.current?.select();
    if (state !== "done") return;
    const timer = setTimeout(() => setState(""), 1600);
    return () => clearTimeout(timer);
  }, [state]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      setState("done");
    } catch {
      setState("failed");
    }
  };
  return (
    <span class="copy">
      <button type="button" class={kind} onClick={() => void copy()}>
        <span aria-live="polite">{state === "done" ? `✓ ${t.copied}` : (label ?? t.copy)}</span>
      </button>
      {state === "failed" && (
        <span class="copy-fallback">
          <span class="quiet">{t.copyFailed}</span>
          <textarea
            ref={shown}
            readOnly
            rows={3}
            value={text()}
            aria-label={t.copyFailed}
            onBlur={() => setState("")}
          />
        </span>
      )}
    </span>
  );
}

/** Says what was done; screen readers hear it too. */
export function useNotes() {
  const [note, setNote] = useState<{ text: string; bad: boolean } | null>(null);
  useEffect(() => {
    if (!note || note.bad) return;
    const timer = setTimeout(() => setNote(null), 6000);
    return () => clearTimeout(timer);
  }, [note]);
  const say = (text: string, bad = false) => setNote({ text, bad });
  const view = (
    <div role="status" class="notes">
      {note && (
        <div class={`notice ${note.bad ? "bad" : "good"}`}>
          <span>{note.text}</span>
          <button type="button" class="small plain" onClick={() => setNote(null)} aria-label={words().close}>
            ×
          </button>
        </div>
      )}
    </div>
  );
  return { say, view };
}
