// Why requests were refused: the step that failed, the likely cause, and what to do.

import { useState } from "preact/hooks";
import { get, type Refusal } from "../api";
import { Ago, Copy, Empty, Loading, Problem, Time, useServer } from "../parts/bits";
import { lang, words } from "../settings";
import { shellWord } from "../shell";
import { count } from "../time";
import { ADVICE } from "../words/advice";

export const ask = (signal: AbortSignal) => get<{ refusals: Refusal[] }>("/v1/refusals", {}, signal);

/** Refusals of one account, reason and client that came one after the other. */
export interface Group {
  key: string;
  /** The newest. */
  refusal: Refusal;
  times: number;
  first: string;
}

export function groups(refusals: Refusal[]): Group[] {
  const found: Group[] = [];
  for (const refusal of refusals) {
    const last = found.at(-1);
    const same =
      last &&
      (["account", "path", "reason", "client", "step"] as const).every((name) => last.refusal[name] === refusal[name]);
    if (same) {
      last.times += 1;
      last.first = refusal.time;
    } else found.push({ key: `${refusal.time} ${found.length}`, refusal, times: 1, first: refusal.time });
  }
  return found;
}

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
              <dd>{refusal.hint}</dd>
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

/** The order in which a request is checked. */
const ORDER = ["body", "signature", "freshness", "decryption", "origin", "receive id", "payload"];

/** Of a request that is signed without its body. */
const IM_ORDER = ["signature", "application", "freshness", "payload"];

const URL_CHECK = ["echostr", "signature", "freshness", "decryption", "receive id", "answer"];

function Steps({ failed, platform }: { failed: string; platform: string }) {
  const t = words();
  const named = t.steps[failed] ?? failed;
  const base = platform.startsWith("im/") ? IM_ORDER : failed === "echostr" || failed === "answer" ? URL_CHECK : ORDER;
  // "origin" is checked always, and of interest only where it failed.
  const order = base.filter((step) => step !== "origin" || failed === "origin");
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
export function Marked({ text }: { text: string }) {
  return <>{text.split("`").map((piece, index) => (index % 2 === 1 ? <code>{piece}</code> : piece))}</>;
}
