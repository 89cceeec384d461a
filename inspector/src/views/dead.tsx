// Dead letters: what an observer gave up on; retry or drop.

import { useEffect, useReducer, useState } from "preact/hooks";
import { type DeadPage, get, type Letter, type LetterKey, post } from "../api";
import { useDirectory } from "../directory";
import { Ago, Empty, Loading, Problem, Time, useNotes } from "../parts/bits";
import { Confirm } from "../parts/dialog";
import { filter } from "../query";
import { href, replace, type Route } from "../router";
import { titled, words } from "../settings";

const PAGE = 100;

/** The server takes as many at a time. */
const MOST = 1000;

const keyOf = (letter: Letter): string => `${letter.event.id} ${letter.observer}`;
const refOf = (letter: Letter): LetterKey => ({ event: letter.event.id, observer: letter.observer });

interface Props {
  route: Route;
  observers: { name: string; dead: number }[];
  changed: () => void;
}

export function Dead({ route, observers, changed }: Props) {
  const t = words();
  const directory = useDirectory();
  const line = route.query.get("q") ?? "";
  const observer = route.query.get("observer") ?? "";
  const [letters, setLetters] = useState<Letter[]>([]);
  const [next, setNext] = useState<string | null>(null);
  const [state, setState] = useState<"loading" | "loaded">("loading");
  const [error, setError] = useState<unknown>(null);
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [asked, setAsked] = useState<{ what: "retry" | "drop"; letters: Letter[] } | null>(null);
  const [turn, again] = useReducer((turn: number) => turn + 1, 0);
  const notes = useNotes();

  const load = async (before: string | null, signal?: AbortSignal) => {
    setState("loading");
    try {
      const { params } = filter(line, directory.known, Date.now());
      const page = await get<DeadPage>("/v1/dead", { ...params, observer, limit: PAGE, before }, signal);
      setLetters((letters) => (before === null ? page.letters : letters.concat(page.letters)));
      setNext(page.next);
      setError(null);
    } catch (error) {
      if (signal?.aborted) return;
      setError(error);
    }
    setState("loaded");
  };
  useEffect(() => {
    const abort = new AbortController();
    const timer = setTimeout(() => void load(null, abort.signal), 120);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [line, observer, directory, turn]);

  const selected = letters.filter((letter) => chosen.has(keyOf(letter)));
  const toggle = (letter: Letter) => {
    const changed = new Set(chosen);
    if (!changed.delete(keyOf(letter))) changed.add(keyOf(letter));
    setChosen(changed);
  };
  const allAreChosen = letters.length > 0 && selected.length === letters.length;
  const act = async (what: "retry" | "drop", on: Letter[]) => {
    let done = 0;
    for (let start = 0; start < on.length; start += MOST) {
      const body = { letters: on.slice(start, start + MOST).map(refOf) };
      const answer = await post<{ retried?: number; dropped?: number }>(`/v1/dead/${what}`, body);
      done += answer.retried ?? answer.dropped ?? 0;
    }
    notes.say(what === "retry" ? t.retriedLetters(done) : t.droppedLetters(done));
    setChosen(new Set());
    again(undefined);
    changed();
  };
  return (
    <div class="page">
      <h1>{t.views.dead}</h1>
      <p class="intro">{t.deadIntro}</p>
      <div class="toolbar wrap">
        <input
          type="search"
          aria-label={t.filter}
          placeholder="type: account: subject:"
          value={line}
          onInput={(event) => replace(href("dead", null, { q: event.currentTarget.value, observer }))}
        />
        <select
          aria-label={t.columns.observer}
          value={observer}
          onChange={(event) => replace(href("dead", null, { q: line, observer: event.currentTarget.value }))}
        >
          <option value="">{t.allObservers}</option>
          {observers.map(({ name, dead }) => (
            <option value={name}>
              {name} ({dead})
            </option>
          ))}
        </select>
        <span class="grow" />
        {selected.length > 0 && <span class="quiet">{t.selected(selected.length)}</span>}
        <button type="button" disabled={selected.length === 0} onClick={() => setAsked({ what: "retry", letters: selected })}>
          {t.retrySelected}…
        </button>
        <button
          type="button"
          class="danger"
          disabled={selected.length === 0}
          onClick={() => setAsked({ what: "drop", letters: selected })}
        >
          {t.drop}…
        </button>
      </div>
      {notes.view}
      {error !== null && <Problem error={error} again={() => again(undefined)} />}
      {letters.length === 0 && state === "loading" && <Loading />}
      {letters.length === 0 && state === "loaded" && error === null && next === null && (
        line === "" && observer === "" ? <Empty title={t.noDead} text={t.noDeadText} /> : <p class="pad">{t.noMatch}</p>
      )}
      {letters.length > 0 && (
        <table class="letters">
          <thead>
            <tr>
              <th scope="col">
                <input
                  type="checkbox"
                  aria-label={t.selectAll}
                  checked={allAreChosen}
                  indeterminate={selected.length > 0 && !allAreChosen}
                  onChange={() => setChosen(allAreChosen ? new Set() : new Set(letters.map(keyOf)))}
                />
              </th>
              <th scope="col">{t.event}</th>
              <th scope="col">{t.columns.observer}</th>
              <th scope="col">{t.columns.error}</th>
              <th scope="col">{t.columns.died}</th>
              <th scope="col">
                <span class="unseen">{t.retrySelected}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {letters.map((letter) => (
              <LetterRow
                key={keyOf(letter)}
                letter={letter}
                chosen={chosen.has(keyOf(letter))}
                toggle={() => toggle(letter)}
                ask={(what) => setAsked({ what, letters: [letter] })}
              />
            ))}
          </tbody>
        </table>
      )}
      {next !== null && (
        <div class="actions pad">
          <button type="button" disabled={state === "loading"} onClick={() => void load(next)}>
            {t.more}
          </button>
        </div>
      )}
      {asked?.what === "retry" && (
        <Confirm
          title={t.retryLetters(asked.letters.length)}
          text={t.retryText}
          action={t.retrySelected}
          close={() => setAsked(null)}
          run={() => act("retry", asked.letters)}
        />
      )}
      {asked?.what === "drop" && (
        <Confirm
          dangerous
          title={t.dropLetters(asked.letters.length)}
          text={t.dropText}
          action={t.drop}
          close={() => setAsked(null)}
          run={() => act("drop", asked.letters)}
        />
      )}
    </div>
  );
}

interface RowProps {
  letter: Letter;
  chosen: boolean;
  toggle: () => void;
  ask: (what: "retry" | "drop") => void;
}

function LetterRow({ letter, chosen, toggle, ask }: RowProps) {
  const t = words();
  const { event, observer, attempts, error, died } = letter;
  const title = titled(event.title, event.type);
  return (
    <tr class={chosen ? "chosen" : ""}>
      <td class="l-check">
        <input type="checkbox" aria-label={t.select(`${title}, ${observer}`)} checked={chosen} onChange={toggle} />
      </td>
      <td class="l-event">
        <a href={href("events", event.id)}>{title}</a>
        <span class="quiet">
          {event.account}
          {event.subject && ` · ${event.subject}`} · <Time at={event.time} />
        </span>
      </td>
      <td class="l-observer">
        <b>{observer}</b>
        <span class="quiet num">{t.attempts(attempts)}</span>
      </td>
      <td class="l-error">
        <span class="cause bad">{error}</span>
      </td>
      <td class="l-died num">
        <Ago at={died} />
      </td>
      <td class="l-actions">
        <button type="button" class="small" onClick={() => ask("retry")}>
          {t.retrySelected}…
        </button>
        <button type="button" class="small danger" onClick={() => ask("drop")}>
          {t.drop}…
        </button>
      </td>
    </tr>
  );
}
