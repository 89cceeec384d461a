// Forwards with state, lag and breaker; observers with what is pending.

import { type Forward, get, type ObserverState } from "../api";
import { Ago, AgoIn, Loading, Problem, useServer } from "../parts/bits";
import { href } from "../router";
import { lang, words } from "../settings";
import { count, duration } from "../time";

interface Flows {
  forwards: Forward[];
  observers: ObserverState[];
}

async function ask(signal: AbortSignal): Promise<Flows> {
  const [{ forwards }, { observers }] = await Promise.all([
    get<{ forwards: Forward[] }>("/v1/forwards", {}, signal),
    get<{ observers: ObserverState[] }>("/v1/observers", {}, signal),
  ]);
  return { forwards, observers };
}

export function Flows() {
  const t = words();
  const { value, error, again } = useServer(ask, "flows", 4000);
  return (
    <div class="page">
      <h1>{t.views.flows}</h1>
      {error !== null && <Problem error={error} again={again} />}
      {!value && error === null && <Loading />}
      {value && (
        <>
          <h2>{t.forwards}</h2>
          {value.forwards.length === 0 ? (
            <p class="quiet">{t.noForwards}</p>
          ) : (
            <ul class="accounts">
              {value.forwards.map((forward) => (
                <ForwardCard
                  key={forward.name}
                  forward={forward}
                  observer={value.observers.find(({ name }) => name === observerOf(forward))}
                />
              ))}
            </ul>
          )}
          <h2>{t.observersTitle}</h2>
          {value.observers.length === 0 ? (
            <p class="quiet">{t.noObserverList}</p>
          ) : (
            <Observers observers={value.observers} />
          )}
        </>
      )}
    </div>
  );
}

/** The observer that a forward is. */
const observerOf = (forward: Forward): string =>
  typeof forward.observer === "string" ? forward.observer : forward.name;

const BAD = ["paused", "open", "failing", "gone"];
const SLOW = ["half_open", "slow", "limited", "probing"];

function Word({ word }: { word: string }) {
  const kind = BAD.includes(word) ? "is-dead" : SLOW.includes(word) ? "is-defaulted" : "is-done";
  return <span class={`badge ${kind}`}>{words().forwardStates[word] ?? word}</span>;
}

const wordOf = (of: unknown): string | null => {
  if (typeof of === "string") return of;
  return typeof of === "object" && of !== null && "state" in of ? String(of.state) : null;
};

function ForwardCard({ forward, observer }: { forward: Forward; observer: ObserverState | undefined }) {
  const t = words();
  const state = wordOf(forward.state);
  const breaker = wordOf(forward.breaker);
  const pending = numberOf(forward.pending) ?? observer?.pending ?? 0;
  const dead = numberOf(forward.dead) ?? observer?.dead ?? 0;
  const error = typeof forward.last_error === "string" ? forward.last_error : null;
  return (
    <li class="card account">
      <header>
        <h3>{forward.name}</h3>
        {forward.format && <span class="tag">{forward.format}</span>}
        <span class="grow" />
        {state && <Word word={state} />}
      </header>
      {forward.to && (
        <div class="url">
          <span class="quiet">{t.target}</span>
          <code>{forward.to}</code>
        </div>
      )}
      <dl class="numbers">
        {breaker && (
          <div>
            <dt>{t.breaker}</dt>
            <dd>
              <Word word={breaker} />
            </dd>
          </div>
        )}
        <div>
          <dt>{t.lag}</dt>
          <dd>
            {typeof forward.lag_ms === "number" ? (
              duration(forward.lag_ms, lang())
            ) : observer?.oldest ? (
              <Ago at={observer.oldest} />
            ) : (
              "0"
            )}
          </dd>
        </div>
        <div>
          <dt>{t.columns.pending}</dt>
          <dd class="num">{count(pending)}</dd>
        </div>
        <div class={dead > 0 ? "bad" : ""}>
          <dt>{t.columns.dead}</dt>
          <dd class="num">
            {dead > 0 ? <a href={href("dead", null, { observer: observerOf(forward) })}>{count(dead)}</a> : "0"}
          </dd>
        </div>
      </dl>
      {error && <p class="cause bad">{error}</p>}
    </li>
  );
}

const numberOf = (of: unknown): number | null => (typeof of === "number" ? of : null);

function Observers({ observers }: { observers: ObserverState[] }) {
  const t = words();
  return (
    <table class="observers">
      <thead>
        <tr>
          <th scope="col">{t.columns.observer}</th>
          <th scope="col">{t.columns.state}</th>
          <th scope="col" class="right">
            {t.columns.pending}
          </th>
          <th scope="col" class="right">
            {t.columns.oldest}
          </th>
          <th scope="col" class="right">
            {t.columns.dead}
          </th>
        </tr>
      </thead>
      <tbody>
        {observers.map(({ name, internal, absent_since, pending, oldest, dead }) => (
          <tr key={name}>
            <th scope="row">
              {name} {internal && <span class="tag">{t.internal}</span>}
            </th>
            <td>
              {absent_since ? (
                <span class="badge is-defaulted">
                  <span>
                    <AgoIn sentence={t.absent} at={absent_since} />
                  </span>
                </span>
              ) : (
                <span class="badge is-done">{t.active}</span>
              )}
            </td>
            <td class="num right" data-label={t.columns.pending}>
              {count(pending)}
            </td>
            <td class="num right" data-label={t.columns.oldest}>
              {oldest ? <Ago at={oldest} /> : "–"}
            </td>
            <td class="num right" data-label={t.columns.dead}>
              {dead > 0 ? <a href={href("dead", null, { observer: name })}>{count(dead)}</a> : "0"}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
