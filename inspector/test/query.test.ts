import assert from "node:assert/strict";
import { test } from "node:test";
import { complete, filter, type Known, suggestions, terms } from "../src/query";

const NOW = Date.parse("2026-11-29T12:00:00.000Z");
const KNOWN: Known = {
  accounts: ["mp/shop", "mp/plain", "im/chat"],
  platforms: ["mp", "miniprogram", "im"],
  types: ["mp.message.text", "mp.event.subscribe", "mp.event.unsubscribe", "im.command.sns.prev_friend_add", "miniprogram.message.text"],
};

const params = (line: string) => filter(line, KNOWN, NOW).params;

const LINES: [string, Record<string, string>][] = [
  ["", {}],
  ["   ", {}],
  ["type:", {}],
  ["type:mp.event.subscribe", { type: "mp.event.subscribe" }],
  ["type:mp.event", { type: "mp.event*" }],
  ["type:mp.*", { type: "mp.*" }],
  // The end of one type, and of two.
  ["type:unsubscribe", { type: "mp.event.unsubscribe" }],
  ["type:text", { type: "text*" }],
  ["account:mp/shop", { account: "mp/shop" }],
  ["account:im/", { account: "im/chat" }],
  ["account:mp/", { account: "mp/" }],
  ["account:mp", { platform: "mp" }],
  ["platform:mini", { platform: "miniprogram" }],
  ["subject:oUser", { subject: "oUser" }],
  ["state:late", { state: "late" }],
  ["state:ans", { state: "answered" }],
  ["state:LATE", { state: "late" }],
  ["状态：处理中 账号:mp/shop", { state: "responding", account: "mp/shop" }],
  ["since:2h", { since: "2026-11-29T10:00:00.000Z" }],
  ["since:2026-11-01", { since: "2026-11-01T00:00:00.000Z" }],
  ["你好", { text: "你好" }],
  ["text:你好 世界", { text: "你好 世界" }],
  ['"two words" type:mp.message.text', { text: "two words", type: "mp.message.text" }],
  ['text:"a b" c', { text: "a b c" }],
  // A key that does not exist is text: URLs have colons too.
  ["https://example.com", { text: "https://example.com" }],
  ["constructor:x", { text: "constructor:x" }],
  ['text:"unfinished', { text: "unfinished" }],
];

for (const [line, expected] of LINES) {
  test(`filter ${JSON.stringify(line)}`, () => assert.deepEqual(params(line), expected));
}

test("what cannot be is said and left out", () => {
  assert.deepEqual(filter("state:gone since:soon type:mp.*", KNOWN, NOW), {
    params: { type: "mp.*" },
    unknown: ["state:gone", "since:soon"],
  });
});

test("terms know where they stand", () => {
  const line = 'type:x  "a b" state:late';
  for (const { start, end } of terms(line)) assert.ok(line.slice(start, end).trim() !== "");
  assert.deepEqual(terms(line).map(({ key }) => key), ["type", null, "state"]);
});

const WORDS = { key: (key: string) => `note of ${key}`, state: () => "", title: (type: string) => (type === "mp.event.subscribe" ? "关注" : "") };
const suggested = (line: string, caret = line.length) =>
  suggestions(line, caret, KNOWN, ["oUser1", "with space"], WORDS).map(({ insert }) => insert);

test("suggestions for keys and values", () => {
  assert.equal(suggested("")[0], "type:");
  assert.deepEqual(suggested("ty"), ["type:"]);
  assert.deepEqual(suggested("account:mp/s"), ["account:mp/shop "]);
  assert.deepEqual(suggested("type:关注"), ["type:mp.event.subscribe "]);
  assert.equal(suggested("type:subscribe")[0], "type:mp.event.subscribe ");
  assert.equal(suggested("type:unsub")[0], "type:mp.event.unsubscribe ");
  assert.equal(suggested("type:subscr")[0], "type:mp.event.subscribe ");
  assert.deepEqual(suggested("subject:with"), ['subject:"with space" ']);
  assert.deepEqual(suggested("text:any"), []);
  assert.deepEqual(suggested("state:late "), []);
});

test("a suggestion replaces the word at the caret", () => {
  assert.deepEqual(complete("a type:mp b", 9, "type:mp.event.subscribe "), { line: "a type:mp.event.subscribe b", caret: 26 });
  assert.deepEqual(complete("", 0, "type:"), { line: "type:", caret: 5 });
});
