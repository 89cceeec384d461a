// The inspector: starts the page, chooses the view, watches the server.

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get, type Info, type ObserverState, onSignedOut, signOut } from "./api";
import { useKeys } from "./keys";
import { Loading, useNow, useServer } from "./parts/bits";
import { Frame, Help } from "./parts/frame";
import { go, href, type Route, useRoute, type View } from "./router";
import { show, switchLanguage, switchTheme, useSettings } from "./settings";
import type { Connection } from "./stream";
import { Accounts } from "./views/accounts";
import { Dead } from "./views/dead";
import { Events } from "./views/events";
import { Flows } from "./views/flows";
import { Login } from "./views/login";
import { ask as askRefusals, Refusals } from "./views/refusals";
import { Send } from "./views/send";

/** How often the numbers of the navigation are asked for. */
const OVERVIEW_MS = 5_000;

const GO: Record<string, View> = { e: "events", r: "refusals", d: "dead", s: "send", a: "accounts", f: "flows" };

interface Overview {
  info: Info;
  observers: ObserverState[];
  refused: number;
}

async function askOverview(signal: AbortSignal): Promise<Overview> {
  const [info, { observers }, { refusals }] = await Promise.all([
    get<Info>("/v1/info", {}, signal),
    get<{ observers: ObserverState[] }>("/v1/observers", {}, signal),
    askRefusals(signal),
  ]);
  return { info, observers, refused: refusals.reduce((sum, { count }) => sum + count, 0) };
}

function App() {
  useSettings();
  const [signedIn, setSignedIn] = useState<boolean | null>(null);
  useEffect(() => onSignedOut(() => setSignedIn(false)), []);
  useEffect(() => {
    if (signedIn !== null) return;
    get<Info>("/v1/info").then(
      () => setSignedIn(true),
      // Signed out is told by the listener above; a server that is not there is shown by the page.
      (error) => !(error instanceof ApiError && error.status === 401) && setSignedIn(true),
    );
  }, [signedIn]);
  if (signedIn === null) return <Loading />;
  return signedIn ? <Page /> : <Login done={() => setSignedIn(true)} />;
}

function Page() {
  const t = useSettings();
  useNow();
  const route = useRoute();
  const [stream, setStream] = useState<Connection>("connecting");
  const [help, setHelp] = useState(false);
  const { value, error, again } = useServer(askOverview, "overview", OVERVIEW_MS);
  const isGone = error instanceof ApiError && error.status === 0;
  const connection: Connection = isGone ? "lost" : route.view === "events" ? stream : value ? "live" : "connecting";

  useEffect(() => {
    document.title = `${t.views[route.view]} · echostr`;
  });
  // A view starts at its top, for eyes and for screen readers.
  const first = useRef(true);
  useEffect(() => {
    if (first.current) first.current = false;
    else document.getElementById("main")?.focus({ preventScroll: true });
    document.getElementById("main")?.scrollTo({ top: 0 });
  }, [route.view]);

  useKeys({
    "?": () => setHelp(true),
    t: switchTheme,
    l: switchLanguage,
    ...Object.fromEntries(Object.entries(GO).map(([key, view]) => [`g ${key}`, () => go(href(view))])),
  });
  const counts = {
    refusals: value?.refused ?? 0,
    dead: value?.observers.reduce((sum, { dead }) => sum + dead, 0) ?? 0,
  };
  const ready = value?.info.ready;
  return (
    <div class="app">
      <a class="skip" href="#main" onClick={(event) => skip(event)}>
        {t.skip}
      </a>
      <Frame
        view={route.view}
        info={value?.info ?? null}
        connection={connection}
        counts={counts}
        help={() => setHelp(true)}
        signOut={value?.info.token ? () => void signOut().finally(() => location.reload()) : null}
      />
      <main id="main" tabIndex={-1}>
        {connection === "lost" && (
          <div class="notice bad banner" role="alert">
            {t.lostLong}
          </div>
        )}
        {ready && !ready.ok && (
          <div class="notice warn banner" role="alert">
            {t.notReady(ready.reason ?? "")}
          </div>
        )}
        <Current route={route} overview={value} connection={setStream} again={again} />
      </main>
      {help && <Help close={() => setHelp(false)} />}
    </div>
  );
}

/** The address behind `#` is the view, so the link cannot be followed as it is. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

interface CurrentProps {
  route: Route;
  overview: Overview | null;
  connection: (state: Connection) => void;
  again: () => void;
}

function Current({ route, overview, connection, again }: CurrentProps) {
  switch (route.view) {
    case "events":
      return (
        <Events
          route={route}
          connection={connection}
          refused={overview?.refused ?? 0}
          masked={overview?.info.masked ?? false}
        />
      );
    case "refusals":
      return <Refusals />;
    case "dead":
      return <Dead route={route} observers={overview?.observers ?? []} changed={again} />;
    case "send":
      return <Send route={route} />;
    case "accounts":
      return <Accounts />;
    case "flows":
      return <Flows />;
  }
}

show();
const root = document.getElementById("app");
if (root) render(<App />, root);
