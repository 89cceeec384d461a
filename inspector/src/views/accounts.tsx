// Accounts: the URL for the console, and how each is doing.

import { type Account, get } from "../api";
import { Ago, AgoIn, Copy, Loading, Problem, useServer } from "../parts/bits";
import { Count, LatencyPlot, Rates } from "../parts/plots";
import { go, href } from "../router";
import { base, lang, setBase, words } from "../settings";
import { callbackUrl } from "../shell";
import { count } from "../time";

const ask = (signal: AbortSignal) => get<{ accounts: Account[] }>("/v1/accounts", {}, signal);

export function Accounts() {
  const t = words();
  const { value, error, again } = useServer(ask, "accounts", 5000);
  return (
    <div class="page">
      <h1>{t.views.accounts}</h1>
      <p class="intro">{t.accountsIntro}</p>
      <label class="base">
        <span>{t.publicBase}</span>
        <input
          type="url"
          inputMode="url"
          placeholder="https://callback.example.com"
          value={base()}
          spellcheck={false}
          onInput={(event) => setBase(event.currentTarget.value)}
        />
        <span class="quiet">{t.publicBaseText}</span>
      </label>
      {error !== null && <Problem error={error} again={again} />}
      {!value && error === null && <Loading />}
      {value?.accounts.length === 0 && <p class="pad">{t.noAccounts}</p>}
      <ul class="accounts">
        {value?.accounts.map((account) => (
          <Card key={account.id} account={account} />
        ))}
      </ul>
    </div>
  );
}

function Card({ account }: { account: Account }) {
  const t = words();
  const { path } = account;
  return (
    <li class="card account">
      <header>
        <h2>{account.id}</h2>
        <span class="tag" title={t.mode}>
          {path === null ? "websocket" : account.mode}
        </span>
        <span class="grow" />
        <span class="quiet num">
          {t.lastEvent}: {account.last_event ? <Ago at={account.last_event} /> : t.never}
        </span>
      </header>
      <Urls account={account} />
      <Rates rates={account.rates} />
      {account.latencies_ms ? (
        <LatencyPlot latencies={account.latencies_ms} lang={lang()} />
      ) : (
        <p class="quiet">
          {t.latency}: {t.noLatency}
        </p>
      )}
      <Outcomes account={account} />
      <Api account={account} />
      <div class="actions">
        <button type="button" class="small" onClick={() => go(href("events", null, { q: `account:${account.id}` }))}>
          {t.views.events}
        </button>
        {path && (
          <button type="button" class="small" onClick={() => go(href("send", null, { account: account.id }))}>
            {t.toSend}
          </button>
        )}
      </div>
    </li>
  );
}

/** A third-party platform has a second URL, for what comes of the accounts that have authorised it. */
function urlPaths({ platform, path }: Account): string[] {
  if (path === null) return [];
  return platform === "openplatform" && !path.includes("$") ? [path, `${path}/$APPID$`] : [path];
}

function Urls({ account }: { account: Account }) {
  const t = words();
  const urls = urlPaths(account);
  if (urls.length === 0) return <p class="quiet">{t.noRoute}</p>;
  return (
    <>
      {urls.map((path, index) => {
        const url = callbackUrl(base(), path);
        return (
          <div class="url">
            <span class="quiet">{index === 0 ? t.callback : t.callbackAlso}</span>
            <code>{url}</code>
            <Copy text={() => url} />
          </div>
        );
      })}
    </>
  );
}

function Outcomes({ account }: { account: Account }) {
  const t = words();
  const { refused } = account;
  const all = Object.entries(account.deliveries).filter(([name, number]) => number > 0 && name !== "refused");
  return (
    <dl class="numbers">
      {all.map(([name, number]) => (
        <div class={name === "defaulted" || name === "unavailable" ? "warn" : ""}>
          <dt>{t.outcomeNames[name] ?? name}</dt>
          <dd>
            <Count of={number} />
          </dd>
        </div>
      ))}
      <div class={refused > 0 ? "bad" : ""}>
        <dt>{t.refused}</dt>
        <dd>{refused > 0 ? <a href={href("refusals")}>{count(refused)}</a> : "0"}</dd>
      </div>
      <div>
        <dt>{t.inFlight}</dt>
        <dd>
          <Count of={account.in_flight} />
        </dd>
      </div>
    </dl>
  );
}

/** States of the access token that need nobody. */
const FINE = ["valid", "none"];

/** Another node has the connection of one that stands by. */
const CONNECTED = ["connected", "standby"];

function Api({ account }: { account: Account }) {
  const t = words();
  const { token, connection, source } = account;
  return (
    <p class="api">
      {token ? (
        <span>
          {t.accessToken}{" "}
          <span class={`badge ${FINE.includes(token.state) ? "is-done" : "is-dead"}`}>
            {t.tokenStates[token.state] ?? token.state}
          </span>{" "}
          {token.expires && (
            <span class="quiet">
              <AgoIn sentence={t.expires} at={token.expires} />
            </span>
          )}
        </span>
      ) : (
        !account.has_secret && !connection && <span class="quiet">{t.noSecret}</span>
      )}
      {connection && (
        <span>
          {t.connection}{" "}
          <span class={`badge ${CONNECTED.includes(connection.state) ? "is-done" : "is-dead"}`} title={connection.text}>
            {t.connectionStates[connection.state] ?? connection.state}
          </span>
        </span>
      )}
      {source && (
        <span>
          {t.source}{" "}
          <span class={`badge ${source.addresses === null ? "is-waiting" : "is-done"}`}>
            {t.sourceChecks[source.check] ?? source.check}
          </span>{" "}
          <span class="quiet">
            {source.addresses === null ? t.noAddresses : t.addresses(source.addresses)}{" "}
            {source.fetched && <Ago at={source.fetched} />}
          </span>
        </span>
      )}
      <span class="quiet">
        {t.lateReply}: <code>{account.late_reply}</code>
      </span>
    </p>
  );
}
