// Why requests were refused: the step that failed, the likely cause, and what to do.

import { useId, useState } from "preact/hooks";
import { get, type Refusal } from "../api";
import { Copy, Empty, Loading, Problem, Time, useServer } from "../parts/bits";
import { lang, words } from "../settings";
import { shellWord } from "../shell";
import { count } from "../time";
import { stepsOf } from "../verification";
import { ADVICE } from "../words/advice";

export const ask = (signal: AbortSignal) => get<{ refusals: Refusal[] }>("/v1/refusals", {}, signal);

export function Refusals() {
  const t = words();
  const { value, error, again } = useServer(ask, "refusals", 4000);
  const all = value?.refusals ?? [];
  return (
    <div class="page">
      <h1>{t.views.refusals}</h1>
      <p class="intro">{t.refusalsIntro}</p>
      {error !== null && <Problem error={error} again={again} />}
      {!value && error === null && <Loading />}
      {value && all.length === 0 && <Empty title={t.noRefusals} text={t.noRefusalsText} />}
      <ol class="refusals">
        {all.map((refusal, index) => (
          <Card key={keyOf(refusal)} refusal={refusal} first={index === 0} />
        ))}
      </ol>
    </div>
  );
}

/** Stays the same when another of the kind comes. */
const keyOf = ({ account, method, path, reason, client }: Refusal): string =>
  [account, method, path, reason, client].join(" ");

/** The request as it was, without the values of its query. */
const shown = ({ path, parameters }: Refusal): string =>
  parameters.length === 0 ? path : `${path}?${parameters.map((name) => `${name}=…`).join("&")}`;

function Card({ refusal, first }: { refusal: Refusal; first: boolean }) {
  const t = words();
  const [open, setOpen] = useState(first);
  const id = useId();
  const advice = ADVICE[refusal.reason]?.[lang()];
  const body = refusal.method === "GET" ? "" : " --body body.xml";
  const command = refusal.account && `echostr explain ${refusal.account} --url ${shellWord(shown(refusal))}${body}`;
  return (
    <li class="card refusal">
      <h2>
        <button type="button" class="card-head" aria-expanded={open} aria-controls={id} onClick={() => setOpen(!open)}>
          <span class="num when">
            <Time at={refusal.time} />
          </span>
          <span class="badge is-dead">{refusal.reason}</span>
          <span class="of">{refusal.account ?? t.unknownAccount}</span>
          <span class="quiet from">
            {refusal.client}
            {refusal.count > 1 && <span class="num"> · ×{count(refusal.count)}</span>}
          </span>
          <span class="chevron" aria-hidden="true" />
        </button>
      </h2>
      <div id={id} hidden={!open} class="card-body">
        <dl>
          {refusal.step && (
            <div>
              <dt>{t.failedStep}</dt>
              <dd>
                <Steps failed={refusal.step} platform={refusal.account ?? ""} />
              </dd>
            </div>
          )}
          {refusal.hint && (
            <div>
              <dt>{t.cause}</dt>
              <dd>
                <Marked text={refusal.hint} />
              </dd>
            </div>
          )}
          {advice && (
            <div>
              <dt>{t.whatToDo}</dt>
              <dd>
                <Marked text={advice} />
              </dd>
            </div>
          )}
          <div>
            <dt>{t.request}</dt>
            <dd>
              <code>
                {refusal.method} {shown(refusal)}
              </code>
              {refusal.count > 1 && <span class="quiet"> · {t.times(refusal.count)}</span>}
            </dd>
          </div>
          {command && (
            <div>
              <dt>{t.explainText}</dt>
              <dd class="command">
                <code>{command}</code>
                <Copy text={() => command} />
              </dd>
            </div>
          )}
        </dl>
      </div>
    </li>
  );
}

function Steps({ failed, platform }: { failed: string; platform: string }) {
  const t = words();
  const named = t.steps[failed] ?? failed;
  const order = stepsOf(failed, platform);
  const at = order.indexOf(failed);
  if (at < 0) return <span class="step is-failed">✕ {named}</span>;
  return (
    <ol class="steps">
      {order.map((step, index) => {
        const [kind, mark, text] =
          index < at
            ? ["passed", "✓", t.stepPassed]
            : index === at
              ? ["failed", "✕", t.stepFailed]
              : ["open", "", t.stepOpen];
        return (
          <li class={`step is-${kind}`}>
            {mark && <span aria-hidden="true">{mark} </span>}
            {t.steps[step] ?? step}
            <span class="unseen">, {text}</span>
          </li>
        );
      })}
    </ol>
  );
}

/** Words between backquotes are code. */
function Marked({ text }: { text: string }) {
  return <>{text.split("`").map((piece, index) => (index % 2 === 1 ? <code>{piece}</code> : piece))}</>;
}
