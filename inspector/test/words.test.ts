import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { href, parseRoute } from "../src/router";
import { bytes, count, duration, fullTime, relative, shortTime, timeOfField } from "../src/time";
import { stepsOf } from "../src/verification";
import { ADVICE } from "../src/words/advice";
import { en } from "../src/words/en";
import { zh } from "../src/words/zh";

const NOW = Date.parse("2026-11-29T12:00:00.000Z");

test("every reason code of docs/refusals.md has advice in both languages, and no other", () => {
  const page = readFileSync("../docs/refusals.md", "utf8");
  const codes = [...page.matchAll(/^\| `(\w+)` \| \d{3} \|/gmu)].map((match) => match[1]!);
  assert.ok(codes.length > 20);
  assert.deepEqual(Object.keys(ADVICE).sort(), codes.sort());
  for (const { en, zh } of Object.values(ADVICE)) assert.ok(en.length > 20 && /[一-鿿]/u.test(zh));
});

test("both languages name the same things", () => {
  const same = (a: object, b: object, path: string) => {
    assert.deepEqual(Object.keys(a).sort(), Object.keys(b).sort(), path);
    for (const [key, value] of Object.entries(a)) {
      const other = (b as Record<string, unknown>)[key];
      if (typeof value === "object" && !Array.isArray(value)) same(value, other as object, `${path}.${key}`);
      else assert.equal(typeof value, typeof other, `${path}.${key}`);
    }
  };
  same(en, zh, "words");
  assert.deepEqual(en.keys.map(([key]) => key), zh.keys.map(([key]) => key));
});

test("times", () => {
  assert.equal(relative("2026-11-29T11:59:59.500Z", NOW, "en"), "now");
  assert.equal(relative("2026-11-29T11:57:00.000Z", NOW, "en"), "3 min ago");
  assert.equal(relative("2026-11-29T14:00:00.000Z", NOW, "en"), "in 2 h");
  assert.equal(relative("2026-11-26T12:00:00.000Z", NOW, "zh"), "3 天前");
  assert.equal(relative("never", NOW, "en"), "");
  assert.match(fullTime("2026-11-29T12:00:00.123Z"), /^2026-11-\d\d \d\d:\d\d:\d\d\.123 [+-]\d\d:\d\d$/u);
  assert.match(shortTime("2026-11-29T11:59:59.500Z", NOW), /^\d\d:\d\d:59$/u);
  assert.match(shortTime("2026-10-01T11:59:59.500Z", NOW), /^10-01 \d\d:59$/u);
  assert.match(shortTime("2025-10-01T11:59:59.500Z", NOW), /^2025-10-01$/u);
  assert.equal(shortTime("never", NOW), "never");
});

test("amounts", () => {
  assert.equal(duration(0.2, "en"), "<1 ms");
  assert.equal(duration(1234, "en"), "1.2 s");
  assert.equal(duration(750_000, "zh"), "12 分钟");
  assert.equal(bytes(0), "0 B");
  assert.equal(bytes(734_003_200), "700 MiB");
  assert.equal(bytes(1_536), "1.5 KiB");
  assert.equal(count(1_234_567), "1\u202f234\u202f567");
});

test("fields that hold a time", () => {
  assert.equal(timeOfField("CreateTime", 1_795_953_600), "2026-11-29T12:00:00.000Z");
  assert.equal(timeOfField("EventTime", "1795953600000"), "2026-11-29T12:00:00.000Z");
  for (const [name, value] of [["CreateTime", 5], ["Amount", 1_795_953_600], ["CreateTime", "x"], ["CreateTime", null]]) {
    assert.equal(timeOfField(name as string, value), null);
  }
});

test("addresses of views", () => {
  const line = "account:mp/shop 你好 & more";
  const route = parseRoute(href("events", "0199-a", { q: line }));
  assert.deepEqual([route.view, route.id, route.query.get("q")], ["events", "0199-a", line]);
  assert.equal(parseRoute("").view, "events");
  assert.equal(parseRoute("#/nowhere/x").id, null);
  assert.equal(parseRoute("#/events/%E0%A4%A").id, null);
  assert.equal(parseRoute("#/__proto__").view, "events");
});

test("the steps around the one that failed", () => {
  assert.deepEqual(stepsOf("signature", "mp/shop").slice(0, 2), ["body", "signature"]);
  assert.ok(stepsOf("application", "im/chat").includes("application"));
  assert.ok(!stepsOf("signature", "mp/shop").includes("origin"));
  assert.ok(stepsOf("origin", "mp/shop").includes("origin"));
  for (const step of Object.keys(en.steps)) {
    const account = step === "application" ? "im/chat" : "mp/shop";
    assert.ok(stepsOf(step, account).includes(step), step);
  }
});
