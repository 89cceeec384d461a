// Why requests were refused: the step that failed, the likely cause, and what to do.

import { useState } from "preact/hooks";
import { get, type Refusal } from "../api";
import { Ago, Copy, Empty, Loading, Problem, Time, useServer } from "../parts/bits";
import { lang, words } from "../settings";
import { shellWord } from "../shell";
import { count } from "../time";
import { type Group, groups, stepsOf } from "../verification";
import { ADVICE } from "../words/advice";

export const ask = (signal: AbortSignal) => get<{ refusals: Refusal[] }>("/v1/refusals", {}, signal);

export function Refusals() {
  const t = words();
  const { value, error, again } = useServer(ask, "refusals", 4000);
  const all = groups(value?.refusals ?? []);
  return (
    <div class="page">
      <h1>{t.views.refusals}</h1>
      <p class="intro">{t.refusalsIntro}</p>
      {error !== null && <Problem error={error} again={again} />}
      {!value && error === null && <Loading />}
      {value && all.length === 0 && <Empty title={t.noRefusals} text={t.noRefusalsText} />}
      <ol class="refusals">
        {all.map((group, index) => (
          <Card key={group.key} group={group} first={index === 0} />
        ))}
      </ol>
    </div>
  );
}

function Card({ group, first }: { group: Group; first: boolean }) {
  const t = words();
  const { refusal, times } = group;
  const [open, setOpen] = useState(first);
  const advice = ADVICE[refusal.reason]?.[lang()];
  const id = `refusal-${group.key.replaceAll(/\W/gu, "")}`;
  const command = `echostr explain ${refusal.account ?? "PLATFORM/ACCOUNT"} --url ${shellWord(`${pathOf(refusal)}?…`)} --body body.xml`;
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
            {times > 1 && <span class="num"> · ×{count(times)}</span>}
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
              <code>{refusal.path}</code>
              {times > 1 && (
                <span class="quiet">
                  {" "}
                  · {t.times(times)}, <Ago at={group.first} /> – <Ago at={refusal.time} />
                </span>
              )}
            </dd>
          </div>
          <div>
            <dt>{t.explainText}</dt>
            <dd class="command">
              <code>{command}</code>
              <Copy text={() => command} />
            </dd>
          </div>
        </dl>
      </div>
    </li>
  );
}

const pathOf = (refusal: Refusal): string => refusal.path.split("?", 1)[0] ?? "";

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
