// The filter line: `type: account: subject: state: platform: since: text:` and free text.

import type { Params, State } from "./api";

export const STATES: State[] = ["responding", "answered", "defaulted", "late"];

export const KEYS = ["type", "account", "subject", "state", "platform", "since", "text"] as const;
export type Key = (typeof KEYS)[number];

/** What a Chinese keyboard writes. */
const ALIASES = new Map<string, Key>(Object.entries({
  类型: "type",
  账号: "account",
  对象: "subject",
  状态: "state",
  平台: "platform",
  时间: "since",
  内容: "text",
}));

const STATE_NAMES = new Map<string, State>(Object.entries({
  处理中: "responding",
  已应答: "answered",
  默认应答: "defaulted",
  迟到: "late",
}));

/** One word of the line. */
export interface Term {
  key: Key | null;
  value: string;
  /** Where it stands in the line. */
  start: number;
  end: number;
}

/** The words of the line; a value with spaces stands in quotes. */
export function terms(line: string): Term[] {
  const found: Term[] = [];
  const word = /([A-Za-z]+|[一-鿿]{2})[:：]("[^"]*"?|\S*)|"[^"]*"?|\S+/gu;
  for (const match of line.matchAll(word)) {
    const [whole, name, raw] = match;
    const key = name === undefined ? null : keyOf(name);
    const value = unquote(key === null ? whole : (raw ?? ""));
    found.push({ key, value, start: match.index, end: match.index + whole.length });
  }
  return found;
}

function keyOf(name: string): Key | null {
  const lower = name.toLowerCase();
  return KEYS.find((key) => key === lower) ?? ALIASES.get(name) ?? null;
}

function unquote(text: string): string {
  return text.startsWith('"') ? text.slice(1, text.endsWith('"') && text.length > 1 ? -1 : undefined) : text;
}

export const quote = (value: string): string => (/[\s"]/u.test(value) ? `"${value.replaceAll('"', "")}"` : value);

/** What is known of the server, so that the beginning of a word is enough. */
export interface Known {
  accounts: string[];
  platforms: string[];
  types: string[];
}

export interface Filter {
  params: Params;
  /** Words that no event can match, as they stand. */
  unknown: string[];
}

/** The parameters of `GET /v1/events` that the line means. */
export function filter(line: string, known: Known, now: number): Filter {
  const params: Params = {};
  const unknown: string[] = [];
  const text: string[] = [];
  for (const { key, value } of terms(line)) {
    if (value === "" && key !== null) continue;
    switch (key) {
      case null:
      case "text":
        text.push(value);
        break;
      case "type":
        params.type = eventType(value, known.types);
        break;
      case "account":
        if (known.platforms.includes(value)) params.platform = value;
        else params.account = byStart(value, known.accounts);
        break;
      case "platform":
        params.platform = byStart(value, known.platforms);
        break;
      case "subject":
        params.subject = value;
        break;
      case "state": {
        const state = STATE_NAMES.get(value) ?? byStart(value.toLowerCase(), STATES);
        if ((STATES as string[]).includes(state)) params.state = state;
        else unknown.push(`state:${value}`);
        break;
      }
      case "since": {
        const since = sinceOf(value, now);
        if (since === null) unknown.push(`since:${value}`);
        else params.since = since;
      }
    }
  }
  if (text.length > 0) params.text = text.join(" ");
  return { params, unknown };
}

/** The one that begins so, or else the word as it is. */
function byStart(word: string, of: string[]): string {
  if (of.includes(word)) return word;
  const found = of.filter((name) => name.startsWith(word));
  return found.length === 1 ? found[0]! : word;
}

/** `mp.event` is the beginning of types, `subscribe` the end of one. */
function eventType(word: string, types: string[]): string {
  if (word.endsWith("*") || types.includes(word)) return word;
  if (!types.some((type) => type.startsWith(word))) {
    const ends = types.filter((type) => type.endsWith(`.${word}`));
    if (ends.length === 1) return ends[0]!;
  }
  return `${word}*`;
}

const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86400 };

/** `15m` ago, or a time, as RFC 3339. */
function sinceOf(word: string, now: number): string | null {
  const ago = /^(\d{1,6})([smhd])$/u.exec(word);
  const time = ago ? now - Number(ago[1]) * UNITS[ago[2]!]! * 1000 : Date.parse(word);
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}

export interface Suggestion {
  /** What is put into the line. */
  insert: string;
  label: string;
  note: string;
}

export interface Vocabulary {
  key: (key: Key) => string;
  state: (state: State) => string;
  title: (type: string) => string;
}

const MOST = 8;

/** What the word at the caret can become. */
export function suggestions(
  line: string,
  caret: number,
  known: Known,
  subjects: string[],
  words: Vocabulary,
): Suggestion[] {
  const term = termAt(line, caret);
  if (!term || term.key === null) {
    const start = term?.value.toLowerCase() ?? "";
    if (start === "" && line.trim() !== "") return [];
    const keys = KEYS.filter((key) => key.startsWith(start) && key !== "text");
    return keys.map((key) => ({ insert: `${key}:`, label: `${key}:`, note: words.key(key) }));
  }
  const { key, value } = term;
  const choices = (names: string[], note: (name: string) => string): Suggestion[] => {
    const low = value.toLowerCase();
    const fits = (name: string) => name.toLowerCase().includes(low) || note(name).toLowerCase().includes(low);
    // What begins so is meant more often than what contains it, and so is a part that does.
    const ranks = [
      (name: string) => name.startsWith(value),
      (name: string) => name.endsWith(`.${value}`),
      (name: string) => name.includes(`.${value}`),
      () => true,
    ];
    const rank = (name: string) => ranks.findIndex((fits) => fits(name));
    const found = names.filter((name) => name !== value && fits(name)).sort((a, b) => rank(a) - rank(b));
    return found.slice(0, MOST).map((name) => ({ insert: `${key}:${quote(name)} `, label: name, note: note(name) }));
  };
  const none = () => "";
  switch (key) {
    case "account":
      return choices(known.accounts, none);
    case "platform":
      return choices(known.platforms, none);
    case "type":
      return choices(known.types, words.title);
    case "state":
      return choices(STATES, (state) => words.state(state as State));
    case "subject":
      return choices(subjects, none);
    case "since":
      return choices(["5m", "1h", "24h", "7d"], none);
    case "text":
      return [];
  }
}

/** The word that is being written. */
export function termAt(line: string, caret: number): Term | undefined {
  return terms(line).find(({ start, end }) => start < caret && caret <= end);
}

/** The line with the word at the caret replaced, and where the caret is then. */
export function complete(line: string, caret: number, insert: string): { line: string; caret: number } {
  const term = termAt(line, caret);
  const start = term?.start ?? caret;
  const rest = line.slice(term?.end ?? caret).trimStart();
  return { line: line.slice(0, start) + insert + rest, caret: start + insert.length };
}
