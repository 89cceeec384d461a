// Forwards with state, breaker and lag; observers with what is pending.

import { useState } from "preact/hooks";
import { type Forward, get, type ObserverState, post } from "../api";
import { Ago, AgoIn, Loading, Problem, useServer } from "../parts/bits";
import { Confirm } from "../parts/dialog";
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
  const [resumed, setResumed] = useState<string | null>(null);
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
                <ForwardCard key={forward.name} forward={forward} resume={() => setResumed(forward.name)} />
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
      {resumed !== null && (
        <Confirm
          title={`${t.resumeForward}: ${resumed}`}
          text={t.resumeText}
          action={t.resumeForward}
          close={() => setResumed(null)}
          run={async () => {
            await post(`/v1/forwards/${encodeURIComponent(resumed)}/resume`, {});
            again();
          }}
        />
      )}
    </div>
  );
}

const KINDS: Record<Forward["state"], string> = {
  ok: "is-done",
  slowed: "is-defaulted",
  open: "is-dead",
  paused: "is-dead",
};

function ForwardCard({ forward, resume }: { forward: Forward; resume: () => void }) {
  const t = words();
  const { name, observer, to, state, why, since, failures, last_success, pending, lag_ms, dead } = forward;
  return (
    <li class="card account">
      <header>
        <h3>{name}</h3>
        <span class="grow" />
        <span class={`badge ${KINDS[state]}`}>{t.forwardStates[state] ?? state}</span>
      </header>
      <div class="url">
        <span class="quiet">{t.target}</span>
        <code>{to}</code>
      </div>
      <dl class="numbers">
        <div>
          <dt>{t.lag}</dt>
          <dd>{lag_ms === null ? "0" : duration(lag_ms, lang())}</dd>
        </div>
        <div>
          <dt>{t.columns.pending}</dt>
          <dd>{count(pending)}</dd>
        </div>
        <div class={failures > 0 ? "warn" : ""}>
          <dt>{t.failures}</dt>
          <dd>{count(failures)}</dd>
        </div>
        <div class={dead > 0 ? "bad" : ""}>
          <dt>{t.columns.dead}</dt>
          <dd>{dead > 0 ? <a href={href("dead", null, { observer })}>{count(dead)}</a> : "0"}</dd>
        </div>
      </dl>
      {state !== "ok" && (
        <p class="cause bad">
          {why} {since && <span class="quiet">· {<Ago at={since} />}</span>}
        </p>
      )}
      <p class="quiet">
        {t.lastSuccess}: {last_success ? <Ago at={last_success} /> : t.never}
      </p>
      {state === "paused" && (
        <div class="actions">
          <button type="button" class="small" onClick={resume}>
            {t.resumeForward}…
          </button>
        </div>
      )}
    </li>
  );
}

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
