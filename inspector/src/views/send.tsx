// Send a sample: acts as the platform, through the server.

import { useMemo, useState } from "preact/hooks";
import { type CatalogType, post, type SampleResult } from "../api";
import { type Directory, useDirectory } from "../directory";
import { Copy, Loading, Problem } from "../parts/bits";
import { Code } from "../parts/code";
import { href, replace, type Route } from "../router";
import { titled, words } from "../settings";
import { FRESH, leaves, sampleTree, shellWord } from "../shell";

/** Types of a list; more are found by searching. */
const MOST_TYPES = 400;

export function Send({ route }: { route: Route }) {
  const t = words();
  const directory = useDirectory();
  const accounts = directory.accounts.filter(({ path }) => path !== null);
  const account = accounts.find(({ id }) => id === route.query.get("account")) ?? accounts[0];
  const types = directory.types.filter((type) => type.sample && account && fits(type, account.platform));
  const type = types.find(({ type }) => type === route.query.get("type")) ?? types[0];
  if (directory.accounts.length === 0) return <Loading />;
  const choose = (account: string, type: string) => replace(href("send", null, { account, type }));
  return (
    <div class="page send">
      <h1>{t.views.send}</h1>
      <p class="intro">{t.sendIntro}</p>
      {!account ? (
        <p class="pad">{t.noAccounts}</p>
      ) : (
        <div class="send-form">
          <div class="pick">
            <label>
              <span>{t.account}</span>
              <select value={account.id} onChange={(event) => choose(event.currentTarget.value, type?.type ?? "")}>
                {accounts.map(({ id }) => (
                  <option value={id}>{id}</option>
                ))}
              </select>
            </label>
            {type ? (
              <Types types={types} chosen={type.type} choose={(type) => choose(account.id, type)} />
            ) : (
              <p class="quiet">{t.noTypes}</p>
            )}
          </div>
          {type && <Form key={`${account.id} ${type.type}`} account={account.id} type={type} />}
        </div>
      )}
    </div>
  );
}

/** A third-party platform receives for the accounts that have authorised it, customer service what is pulled. */
function fits(type: CatalogType, platform: string): boolean {
  return type.platform === platform || (platform === "openplatform" && ["mp", "miniprogram"].includes(type.platform));
}

interface TypesProps {
  types: Directory["types"];
  chosen: string;
  choose: (type: string) => void;
}

function Types({ types, chosen, choose }: TypesProps) {
  const t = words();
  const [search, setSearch] = useState("");
  const low = search.trim().toLowerCase();
  const found = types.filter(
    ({ type, name }) => type.toLowerCase().includes(low) || name.en.toLowerCase().includes(low) || name.zh.includes(low),
  );
  const shown = found.slice(0, MOST_TYPES);
  return (
    <div class="types">
      <label>
        <span>
          {t.event} <span class="quiet num">{t.typeCount(found.length)}</span>
        </span>
        <input
          type="search"
          placeholder={t.findType}
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && shown[0]) choose(shown[0].type);
          }}
        />
      </label>
      <div class="type-list" role="radiogroup" aria-label={t.event}>
        {shown.map(({ type, name }) => (
          <label class={type === chosen ? "chosen" : ""}>
            <input type="radio" name="type" class="unseen" checked={type === chosen} onChange={() => choose(type)} />
            <span>{titled(name, type)}</span>
            <code>{type}</code>
          </label>
        ))}
      </div>
    </div>
  );
}

function Form({ account, type }: { account: string; type: CatalogType }) {
  const t = words();
  const fields = useMemo(() => leaves(type.sample ? sampleTree(type.sample) : {}).filter(([path]) => !FRESH.has(path)), [type]);
  const [set, setSet] = useState<Record<string, string>>({});
  const [added, setAdded] = useState<string[]>([]);
  const [path, setPath] = useState("");
  const [sending, setSending] = useState(false);
  const [result, setResult] = useState<SampleResult | null>(null);
  const [failed, setFailed] = useState<unknown>(null);
  const initial = new Map(fields);
  const changed = Object.fromEntries(Object.entries(set).filter(([path, value]) => initial.get(path) !== value));
  const send = async (event: Event) => {
    event.preventDefault();
    setSending(true);
    setFailed(null);
    try {
      setResult(await post<SampleResult>("/v1/samples", { account, type: type.type, set: changed }));
    } catch (error) {
      setResult(null);
      setFailed(error);
    }
    setSending(false);
  };
  const add = () => {
    const name = path.trim();
    if (name !== "" && !initial.has(name) && !added.includes(name)) {
      setAdded([...added, name]);
      setSet({ ...set, [name]: "" });
    }
    setPath("");
  };
  const command = [`echostr simulate ${shellWord(account)} ${shellWord(type.type)}`]
    .concat(Object.entries(changed).map(([path, value]) => `--set ${shellWord(`${path}=${value}`)}`))
    .join(" \\\n  ");
  return (
    <form class="fill" onSubmit={(event) => void send(event)}>
      <h2>
        {titled(type.name, type.type)} <code>{type.type}</code>
      </h2>
      <p class="quiet">{t.changeText}</p>
      <div class="inputs">
        {[...fields, ...added.map((path): [string, string] => [path, ""])].map(([path, value]) => (
          <Input
            key={path}
            path={path}
            initial={value}
            value={set[path] ?? value}
            change={(value) => setSet({ ...set, [path]: value })}
          />
        ))}
        <div class="input">
          <label for="new-path">{t.addField}</label>
          <span class="with-button">
            <input
              id="new-path"
              value={path}
              placeholder={t.fieldPath}
              onInput={(event) => setPath(event.currentTarget.value)}
              onKeyDown={(event) => {
                if (event.key !== "Enter") return;
                event.preventDefault();
                add();
              }}
            />
            <button type="button" class="small" onClick={add} disabled={path.trim() === ""}>
              +
            </button>
          </span>
        </div>
      </div>
      <div class="actions">
        <button type="submit" class="primary" disabled={sending}>
          {sending ? t.sending : result ? t.sendAgain : t.sendButton}
        </button>
        <details>
          <summary>{t.sameOnShell}</summary>
          <div class="command">
            <pre>{command}</pre>
            <Copy text={() => command} />
          </div>
        </details>
      </div>
      {failed !== null && <Problem error={failed} />}
      <div aria-live="polite">{result && <Result result={result} />}</div>
    </form>
  );
}

interface InputProps {
  path: string;
  initial: string;
  value: string;
  change: (value: string) => void;
}

function Input({ path, initial, value, change }: InputProps) {
  const t = words();
  const isChanged = value !== initial;
  const id = `field-${path}`;
  return (
    <div class={`input ${isChanged ? "changed" : ""}`}>
      <label for={id}>
        <code>{path}</code>
        {isChanged && <span class="mark">{t.changed}</span>}
      </label>
      <span class="with-button">
        {value.length > 60 || value.includes("\n") ? (
          <textarea id={id} rows={3} value={value} onInput={(event) => change(event.currentTarget.value)} />
        ) : (
          <input id={id} value={value} spellcheck={false} onInput={(event) => change(event.currentTarget.value)} />
        )}
        {isChanged && (
          <button type="button" class="small" onClick={() => change(initial)} aria-label={`${t.reset}: ${path}`}>
            {t.reset}
          </button>
        )}
      </span>
    </div>
  );
}

function Result({ result }: { result: SampleResult }) {
  const t = words();
  const { status, reply, event, error } = result;
  return (
    <section class={`card result ${error ? "is-bad" : "is-good"}`}>
      <h3>
        {t.result} {typeof status === "number" && <span class="num">{status}</span>}
      </h3>
      <p class={error ? "cause bad" : ""}>{error ? `${t.resultBad} ${error}` : t.resultOk}</p>
      {reply ? <Code text={reply} label={t.reply} /> : !error && <p class="quiet">{t.plainAnswer}</p>}
      {event && (
        <p>
          <a class="button" href={href("events", event)}>
            {t.openEvent} →
          </a>
        </p>
      )}
    </section>
  );
}
