// One event's story: what came, what was answered, who saw it, and what can be done now.

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, eventPath, get, post, type Observation, type Story as EventStory } from "../api";
import type { Directory } from "../directory";
import { useKeys } from "../keys";
import { Copy, Loading, ObservationBadge, Problem, StateBadge, AgoIn, Time, useNotes, useServer } from "../parts/bits";
import { Code } from "../parts/code";
import { Confirm } from "../parts/dialog";
import { Fields } from "../parts/fields";
import { quote } from "../query";
import { href } from "../router";
import { lang, titled, words } from "../settings";
import { curl, simulate } from "../shell";
import { duration, fullTime } from "../time";

/** How often a story is read again: while something is still to happen, and when all is done. */
const MOVING_MS = 2_000;
const STILL_MS = 10_000;

/** Below this the story is in place of the list. */
const IN_PLACE = "(max-width: 1079px)";

/** Where the copied `curl` posts to. */
const LOCAL = "http://localhost:3000/";

type Tab = "payload" | "fields" | "cloudevent";
const TABS: Tab[] = ["payload", "fields", "cloudevent"];

interface Props {
  id: string;
  close: () => void;
  directory: Directory;
  /** Whether the server hides values. */
  masked: boolean;
}

export function Story({ id, close, directory, masked }: Props) {
  const t = words();
  const [revealed, setRevealed] = useState<EventStory | null>(null);
  const [asked, setAsked] = useState<"replay" | "reveal" | { observer: string } | null>(null);
  const notes = useNotes();
  const [moving, setMoving] = useState(true);
  const ask = (signal: AbortSignal) => get<EventStory>(eventPath(id), {}, signal);
  const { value, error, again } = useServer(ask, id, moving ? MOVING_MS : STILL_MS);
  const article = useRef<HTMLElement>(null);
  useEffect(() => {
    if (matchMedia(IN_PLACE).matches) article.current?.focus();
  }, []);
  useEffect(() => {
    if (value) setMoving(isMoving(value));
  }, [value]);
  const story = value && revealed ? { ...value, ...pick(revealed) } : value;

  useKeys({ r: () => story && story.observations.length > 0 && setAsked("replay") });

  const replay = async (body: { observer: string } | { all_observers: true }) => {
    const { queued } = await post<{ queued: number }>(`${eventPath(id)}/replay`, body);
    notes.say(t.replayed(queued));
    again();
  };
  const isMissing = error instanceof ApiError && error.status === 404;
  return (
    <article class="story" ref={article} tabIndex={-1}>
      <header class="story-head">
        <button type="button" class="plain back" onClick={close} aria-label={t.back}>
          <span aria-hidden="true">←</span> <span class="back-text">{t.back}</span>
        </button>
        {story && (
          <>
            <h1>{titled(story.title, story.type)}</h1>
            <StateBadge state={story.state} />
          </>
        )}
      </header>
      {error !== null && !isMissing && <Problem error={error} again={again} />}
      {isMissing && <p class="pad">{t.notFound}</p>}
      {!story && error === null && <Loading />}
      {notes.view}
      {story && (
        <>
          <Facts story={story} />
          <Commands story={story} directory={directory} />
          {masked && (revealed || isMasked(story)) && (
            <div class="notice">
              <span>{revealed ? t.revealed : t.masked}</span>
              {!revealed && (
                <button type="button" class="small" onClick={() => setAsked("reveal")}>
                  {t.reveal}
                </button>
              )}
            </div>
          )}
          <Happened story={story} ask={setAsked} />
          <Content story={story} />
        </>
      )}
      {asked === "replay" && (
        <Confirm title={t.replayAll} text={t.replayAllText} action={t.replay} close={() => setAsked(null)} run={() => replay({ all_observers: true })} />
      )}
      {asked === "reveal" && (
        <Confirm
          title={t.reveal}
          text={t.revealText}
          action={t.reveal}
          close={() => setAsked(null)}
          run={async () => setRevealed(await get<EventStory>(eventPath(id), { reveal: true }))}
        />
      )}
      {asked !== null && typeof asked === "object" && (
        <Confirm
          title={t.replayTo(asked.observer)}
          text={t.replayOneText(asked.observer)}
          action={t.replay}
          close={() => setAsked(null)}
          run={() => replay(asked)}
        />
      )}
    </article>
  );
}

/** What the server writes in place of a value. */
const MASK = "***";

const isMasked = ({ payload, reply, subject }: EventStory): boolean =>
  [payload, reply, subject].some((text) => text?.includes(MASK));

const isMoving = ({ state, observations }: EventStory): boolean =>
  state === "responding" || observations.some(({ state }) => state === "waiting" || state === "leased");

/** What the masks hide of an event. */
const pick = ({ payload, data, reply, cloudevent, subject }: EventStory) => ({
  payload,
  data,
  cloudevent,
  reply,
  subject,
});

function Facts({ story }: { story: EventStory }) {
  const t = words();
  return (
    <dl class="facts">
      <Fact name={t.columns.type} filter={`type:${story.type}`} value={story.type} />
      <Fact name={t.columns.account} filter={`account:${quote(story.account)}`} value={story.account} />
      {story.subject && (
        <Fact name={t.columns.subject} filter={`subject:${quote(story.subject)}`} value={story.subject} />
      )}
      <div>
        <dt>{t.received}</dt>
        <dd class="num">
          <Time at={story.time} both />
        </dd>
      </div>
      <div>
        <dt>ID</dt>
        <dd>
          <code>{story.id}</code>
        </dd>
      </div>
    </dl>
  );
}

/** What one can see all events of. */
function Fact({ name, filter, value }: { name: string; filter: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <a href={href("events", null, { q: filter })} title={words().allOf(value)}>
          <code>{value}</code>
        </a>
      </dd>
    </div>
  );
}

function Commands({ story, directory }: { story: EventStory; directory: Directory }) {
  const t = words();
  const sample = directory.byType.get(story.type)?.sample ?? null;
  return (
    <div class="commands" role="group" aria-label={t.copyAs}>
      <span class="quiet">{t.copyAs}</span>
      <Copy text={() => curl(story, LOCAL)} label={t.copyCurl} />
      <Copy text={() => simulate(story, sample)} label={t.copySimulate} />
      <Copy text={() => JSON.stringify(story.cloudevent, null, 2)} label={t.copyEvent} />
      <Copy text={() => story.id} label={t.copyId} />
    </div>
  );
}

type Ask = (what: "replay" | { observer: string }) => void;

function Happened({ story, ask }: { story: EventStory; ask: Ask }) {
  const t = words();
  const isPlain = story.state === "answered" && !story.has_reply && !story.reply;
  return (
    <section class="happened" aria-label={t.happened}>
      <h2>{t.happened}</h2>
      <ol>
        <li class="is-done">
          <h3>{t.delivery}</h3>
          <p>{story.deliveries > 1 ? t.deliveredMore(story.deliveries) : t.deliveredOnce}</p>
          {story.attempts.length > 0 && (
            <ol class="attempts num">
              {story.attempts.map((attempt) => (
                <li>{t.attempt(fullTime(attempt.time), duration(attempt.duration_ms, lang()))}</li>
              ))}
            </ol>
          )}
        </li>
        <li class={`is-${story.state}`}>
          <h3>{t.response}</h3>
          <p>{isPlain ? t.stateText.answeredPlain : t.stateText[story.state]}</p>
          {story.failure && <p class={`cause ${story.state === "defaulted" ? "bad" : ""}`}>{story.failure}</p>}
          {story.reply && <Code text={story.reply} label={t.reply} />}
        </li>
        <li class={`is-${worst(story.observations)}`}>
          <h3>{t.observers}</h3>
          {story.observations.length === 0 && <p>{t.noObservers}</p>}
          <ul class="observations">
            {story.observations.map((observation) => (
              <ObservationLine observation={observation} ask={ask} />
            ))}
          </ul>
          {story.observations.length > 1 && (
            <button type="button" class="small" onClick={() => ask("replay")}>
              {t.replayAll}…
            </button>
          )}
        </li>
      </ol>
    </section>
  );
}

/** The state that the whole row of observers is shown in. */
function worst(observations: Observation[]): string {
  const order: Observation["state"][] = ["dead", "leased", "waiting"];
  return order.find((state) => observations.some((observation) => observation.state === state)) ?? "done";
}

function ObservationLine({ observation, ask }: { observation: Observation; ask: Ask }) {
  const t = words();
  const { observer, state, due, attempts, error } = observation;
  return (
    <li>
      <div class="observation">
        <ObservationBadge state={state} />
        <b class="observer">{observer}</b>
        <span class="quiet num">
          {attempts > 0 && t.attempts(attempts)}
          {due && state === "waiting" && <> · <AgoIn sentence={t.due} at={due} /></>}
          {due && state === "leased" && <> · <AgoIn sentence={t.leaseEnds} at={due} /></>}
          {due && state === "dead" && <> · <AgoIn sentence={t.diedAt} at={due} /></>}
        </span>
        <button type="button" class="small" onClick={() => ask({ observer })} aria-label={t.replayTo(observer)}>
          {t.replay}…
        </button>
      </div>
      {error && <p class={`cause ${state === "dead" ? "bad" : ""}`}>{error}</p>}
    </li>
  );
}

function Content({ story }: { story: EventStory }) {
  const t = words();
  const [tab, setTab] = useState<Tab>("payload");
  const select = (event: KeyboardEvent) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? TABS.length - 1 : 0;
    if (by === 0) return;
    event.preventDefault();
    const next = TABS[(TABS.indexOf(tab) + by) % TABS.length]!;
    setTab(next);
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <section class="content">
      <div role="tablist" class="tabs" aria-label={t.payload} onKeyDown={select}>
        {TABS.map((name) => (
          <button
            type="button"
            role="tab"
            id={`tab-${name}`}
            aria-selected={tab === name}
            aria-controls="tab-panel"
            tabIndex={tab === name ? 0 : -1}
            onClick={() => setTab(name)}
          >
            {t[name]}
          </button>
        ))}
      </div>
      <div role="tabpanel" id="tab-panel" aria-labelledby={`tab-${tab}`}>
        {tab === "payload" && <Code text={story.payload} label={t.payload} />}
        {tab === "fields" && <Fields data={story.data} />}
        {tab === "cloudevent" && <Code text={JSON.stringify(story.cloudevent, null, 2)} label={t.cloudevent} />}
      </div>
    </section>
  );
}
