// Times and amounts as people read them.

export type Lang = "en" | "zh";

const two = (number: number) => String(number).padStart(2, "0");

/** `14:03:22` of today, `11-28 14:03` of another day, with the year of another year. */
export function shortTime(iso: string, now: number): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const today = new Date(now);
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}`;
  if (date.toDateString() === today.toDateString()) return `${clock}:${two(date.getSeconds())}`;
  const day = `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return date.getFullYear() === today.getFullYear() ? `${day} ${clock}` : `${date.getFullYear()}-${day}`;
}

/** `2026-11-29 14:03:22.123 +08:00`. */
export function fullTime(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? "-" : "+"}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  return `${day} ${clock}.${String(date.getMilliseconds()).padStart(3, "0")} ${zone}`;
}

const UNITS: [number, string, string][] = [
  [86400, "d", "天"],
  [3600, "h", "小时"],
  [60, "min", "分钟"],
  [1, "s", "秒"],
];

/** `3 min ago`, `in 2 h`. */
export function relative(iso: string, now: number, lang: Lang): string {
  const seconds = Math.round((Date.parse(iso) - now) / 1000);
  if (Number.isNaN(seconds)) return "";
  const far = Math.abs(seconds);
  if (far < 2) return lang === "zh" ? "刚刚" : "now";
  const span = spanOf(far, lang);
  if (seconds > 0) return lang === "zh" ? `${span}后` : `in ${span}`;
  return lang === "zh" ? `${span}前` : `${span} ago`;
}

function spanOf(seconds: number, lang: Lang): string {
  const [size, en, zh] = UNITS.find(([size]) => seconds >= size) ?? UNITS[3]!;
  return `${Math.floor(seconds / size)} ${lang === "zh" ? zh : en}`;
}

/** `4 ms`, `1.2 s`, `3 min`. */
export function duration(ms: number, lang: Lang): string {
  if (ms < 1) return "<1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${Number((ms / 1000).toFixed(1))} s`;
  return spanOf(ms / 1000, lang);
}

/** `12.3 MiB`. */
export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let amount = count;
  let unit = 0;
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${unit === 0 || amount >= 100 ? Math.round(amount) : amount.toFixed(1)} ${units[unit]}`;
}

/** `12 345`, with a thin space that does not break. */
export const count = (number: number): string => String(number).replaceAll(/\B(?=(\d{3})+$)/gu, "\u202f");

/** The time of a field that holds one, in Unix seconds or milliseconds. */
export function timeOfField(name: string, value: unknown): string | null {
  if (!/time(stamp)?$/iu.test(name)) return null;
  const number = typeof value === "number" ? value : typeof value === "string" && /^\d+$/u.test(value) ? Number(value) : 0;
  const ms = number > 1e9 && number < 1e10 ? number * 1000 : number > 1e12 && number < 1e13 ? number : 0;
  return ms === 0 ? null : new Date(ms).toISOString();
}
