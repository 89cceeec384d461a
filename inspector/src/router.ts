// The address behind `#`: `#/events/ID?q=…`. It can be shared, and the browser's own back button works.

import { useEffect, useState } from "preact/hooks";

export type View = "events" | "refusals" | "dead" | "send" | "accounts" | "flows";

export const VIEWS: View[] = ["events", "refusals", "dead", "send", "accounts", "flows"];

export interface Route {
  view: View;
  /** The event that is open. */
  id: string | null;
  query: URLSearchParams;
}

export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/u, "").split("?", 2);
  const [view, id] = path.split("/");
  const known = VIEWS.find((name) => name === view);
  let decoded: string | null = null;
  try {
    decoded = id ? decodeURIComponent(id) : null;
  } catch {
    // Somebody's broken link: the list is shown.
  }
  return { view: known ?? "events", id: known === "events" ? decoded : null, query: new URLSearchParams(query) };
}

export function href(view: View, id: string | null = null, query: Record<string, string> = {}): string {
  const kept = Object.entries(query).filter(([, value]) => value !== "");
  const text = new URLSearchParams(kept).toString();
  return `#/${view}${id ? `/${encodeURIComponent(id)}` : ""}${text ? `?${text}` : ""}`;
}

export const go = (to: string): void => {
  if (location.hash !== to) location.hash = to;
};

/** Changes the address without a step in the history, as for each letter of a filter. */
export function replace(to: string): void {
  history.replaceState(null, "", to);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const listener = () => setRoute(parseRoute(location.hash));
    addEventListener("hashchange", listener);
    return () => removeEventListener("hashchange", listener);
  }, []);
  return route;
}
