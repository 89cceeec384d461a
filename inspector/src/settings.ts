// Language, theme and what else this browser keeps. Changes reach every part of the page at once.

import { useEffect, useReducer } from "preact/hooks";
import type { Title } from "./api";
import type { Lang } from "./time";
import { en, type Words } from "./words/en";
import { zh } from "./words/zh";

export type Theme = "auto" | "light" | "dark";

const THEMES: Theme[] = ["auto", "light", "dark"];

/** Storage may be forbidden; the page works without it. */
function read(name: string): string | null {
  try {
    return localStorage.getItem(`echostr.${name}`);
  } catch {
    return null;
  }
}

function write(name: string, value: string): void {
  try {
    localStorage.setItem(`echostr.${name}`, value);
  } catch {
    // Kept for this visit only.
  }
}

const state = {
  lang: (read("lang") ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en")) === "zh" ? "zh" : "en",
  theme: THEMES.find((theme) => theme === read("theme")) ?? "auto",
  base: read("base") ?? "",
} as { lang: Lang; theme: Theme; base: string };

const listeners = new Set<() => void>();

function changed(): void {
  show();
  for (const listener of listeners) listener();
}

/** Puts language and theme where the style sheet and screen readers find them. */
export function show(): void {
  const root = document.documentElement;
  root.lang = state.lang === "zh" ? "zh-CN" : "en";
  if (state.theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = state.theme;
}

export const lang = (): Lang => state.lang;
export const theme = (): Theme => state.theme;
export const base = (): string => state.base;
export const words = (): Words => (state.lang === "zh" ? zh : en);

export function switchLanguage(): void {
  state.lang = state.lang === "zh" ? "en" : "zh";
  write("lang", state.lang);
  changed();
}

export function switchTheme(): void {
  state.theme = THEMES[(THEMES.indexOf(state.theme) + 1) % THEMES.length]!;
  write("theme", state.theme);
  changed();
}

export function setBase(base: string): void {
  state.base = base;
  write("base", base);
  changed();
}

/** Renders again when language or theme change. */
export function useSettings(): Words {
  const [, again] = useReducer((turn: number) => turn + 1, 0);
  useEffect(() => {
    const listener = () => again(undefined);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return words();
}

/** A title in the page's language; the type where the catalogue has none. */
export function titled(title: Title | undefined, type: string): string {
  return title?.[state.lang] || type;
}
