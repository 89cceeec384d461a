// What is around every view: name, navigation, state of the server, language and theme.

import type { Info } from "../api";
import { href, type View, VIEWS } from "../router";
import { switchLanguage, switchTheme, theme, words } from "../settings";
import { setShortcuts, shortcutsAreOn } from "../keys";
import type { Connection } from "../stream";
import { bytes } from "../time";
import { AgoIn } from "./bits";
import { Dialog } from "./dialog";
import { useEffect, useRef, useState } from "preact/hooks";

export const Logo = () => (
  <span class="logo">
    <svg viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" />
      <path d="M12.600 12a5.600 5.600 0 0 1 0 8M16.600 8.200a11 11 0 0 1 0 15.600M20.600 4.600a16 16 0 0 1 0 22.800" />
      <circle cx="8.600" cy="16" r="2.600" />
    </svg>
    echostr
  </span>
);

export function Switches() {
  const t = words();
  return (
    <>
      <button type="button" class="plain" onClick={switchLanguage} aria-label={t.languageLabel} title={t.languageLabel} lang={t.language === "EN" ? "en" : "zh-CN"}>
        {t.language}
      </button>
      <button type="button" class="plain icon" onClick={switchTheme} aria-label={t.theme[theme()]} title={t.theme[theme()]}>
        <svg viewBox="0 0 16 16" aria-hidden="true">
          {theme() === "light" && (
            <>
              <circle cx="8" cy="8" r="3" />
              <path d="M8 1v2M8 13v2M1 8h2M13 8h2M3 3l1.500 1.500M11.500 11.500 13 13M13 3l-1.500 1.500M4.500 11.500 3 13" />
            </>
          )}
          {theme() === "dark" && <path d="M13.500 9.500A6 6 0 0 1 6.500 2.500a6 6 0 1 0 7 7z" />}
          {theme() === "auto" && (
            <>
              <circle cx="8" cy="8" r="6" />
              <path d="M8 2a6 6 0 0 1 0 12z" class="filled" />
            </>
          )}
        </svg>
      </button>
    </>
  );
}

interface Props {
  view: View;
  info: Info | null;
  connection: Connection;
  counts: Partial<Record<View, number>>;
  help: () => void;
  signOut: (() => void) | null;
}

export function Frame({ view, info, connection, counts, help, signOut }: Props) {
  const t = words();
  const nav = useRef<HTMLElement>(null);
  // Of a narrow page the navigation scrolls.
  useEffect(() => nav.current?.querySelector("[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" }), [view]);
  return (
    <header class="frame">
      <div class="top">
        <a class="home" href={href("events")}>
          <Logo />
        </a>
        <span class={`connection is-${connection}`} role="status">
          {connection === "live" ? t.live : connection === "lost" ? t.lost : t.connecting}
        </span>
      </div>
      <nav ref={nav}>
        <ul>
          {VIEWS.map((name) => (
            <li>
              <a href={href(name)} {...(name === view ? { "aria-current": "page" } : {})}>
                {t.views[name]}
                {(counts[name] ?? 0) > 0 && (
                  <>
                    {" "}
                    <span class={`count ${name === "dead" ? "bad" : ""}`}>{counts[name]! > 99 ? "99+" : counts[name]}</span>
                  </>
                )}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <div class="foot">
        {info && <Server info={info} />}
        <div class="switches">
          <Switches />
          <button type="button" class="plain icon" onClick={help} aria-label={t.keysHelp} title={t.keysHelp}>
            ?
          </button>
          {signOut && (
            <button type="button" class="plain" onClick={signOut}>
              {t.signOut}
            </button>
          )}
        </div>
      </div>
    </header>
  );
}

function Server({ info }: { info: Info }) {
  const t = words();
  const { journal } = info;
  const full = journal.max_bytes > 0 ? journal.bytes / journal.max_bytes : 0;
  return (
    <div class="server">
      <div class={full > 0.9 ? "bad" : full > 0.7 ? "warn" : ""}>
        <span>{t.journalUse(journal.kind, bytes(journal.bytes), bytes(journal.max_bytes))}</span>
        <span class="meter" aria-hidden="true">
          <span style={{ width: `${Math.min(100, full * 100)}%` }} />
        </span>
      </div>
      <div>
        {info.version} · <AgoIn sentence={t.since} at={info.started} />
      </div>
    </div>
  );
}

export function Help({ close }: { close: () => void }) {
  const t = words();
  const [on, setOn] = useState(shortcutsAreOn());
  return (
    <Dialog title={t.keysHelp} close={close}>
      <dl class="keys">
        {t.keys.map(([keys, what]) => (
          <div>
            <dt>
              {keys.split(/( \/ |, )/u).map((key, index) => (index % 2 === 1 ? key : <kbd>{key}</kbd>))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <label class="check">
        <input
          type="checkbox"
          checked={on}
          onChange={(event) => {
            setOn(event.currentTarget.checked);
            setShortcuts(event.currentTarget.checked);
          }}
        />
        {t.shortcutsOn}
      </label>
      <div class="actions end">
        <button type="button" onClick={close} autofocus>
          {t.close}
        </button>
      </div>
    </Dialog>
  );
}
