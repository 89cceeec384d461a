// Single-letter shortcuts, also two in a row (`g e`). They can be switched off: speech input triggers them by accident.

import { useEffect, useRef } from "preact/hooks";

export type Keys = Record<string, (event: KeyboardEvent) => void>;

const NAME = "echostr.shortcuts";

/** How long `g` waits for its second letter. */
const SEQUENCE_MS = 1_200;

export function shortcutsAreOn(): boolean {
  try {
    return localStorage.getItem(NAME) !== "off";
  } catch {
    return true;
  }
}

export function setShortcuts(on: boolean): void {
  try {
    localStorage.setItem(NAME, on ? "on" : "off");
  } catch {
    // On for this visit.
  }
}

const isWriting = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && target.matches("input:not([type=checkbox], [type=radio]), textarea, select");

const maps = new Set<{ current: Keys }>();
let prefixed = -SEQUENCE_MS;

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (isWriting(event.target) || document.querySelector("dialog[open]")) return;
  if (event.key.length === 1 && !shortcutsAreOn()) return;
  const isSecond = event.timeStamp - prefixed < SEQUENCE_MS;
  prefixed = event.key === "g" && !isSecond ? event.timeStamp : -SEQUENCE_MS;
  const name = isSecond ? `g ${event.key}` : event.key;
  for (const { current } of [...maps]) if (Object.hasOwn(current, name)) current[name]?.(event);
});

/** Calls what the map has for a key, unless somebody is writing or a dialog is open. */
export function useKeys(keys: Keys): void {
  const map = useRef(keys);
  map.current = keys;
  useEffect(() => {
    maps.add(map);
    return () => void maps.delete(map);
  }, []);
}
