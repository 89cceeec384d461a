import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import type { Sample, Story } from "../src/api";
import { callbackUrl, curl, leaves, sampleTree, shellWord, simulate } from "../src/shell";

const story = (more: Partial<Story>): Story => ({
  id: "0199", time: "2026-11-29T12:00:00.000Z", account: "mp/shop", platform: "mp", type: "mp.message.text", state: "answered",
  title: { en: "Text", zh: "文本" }, subject: null, failure: null, reply: null, deliveries: 1, duration_ms: 3.5, has_reply: false, form: "xml", payload: "<xml/>", data: {}, cloudevent: {}, attempts: [], observations: [], ...more,
});

const xml = (payload: string): Sample => ({ form: "xml", payload });
const json = (payload: string): Sample => ({ form: "json", payload });

const NASTY = ["", "plain", "it's", "$(id) `id` \\ \"q\"", "a\nb", "你好", "*?[x]", "!bang", "-x", "~"];

test("a shell reads each word back as it was", () => {
  for (const word of NASTY) {
    const read = execFileSync("sh", ["-c", `printf '%s' ${shellWord(word)}`], { encoding: "utf8" });
    assert.equal(read, word);
  }
});

test("curl posts the CloudEvent as it is", () => {
  const cloudevent = { id: "0199", data: { Content: "it's $(id)" } };
  const command = curl(story({ cloudevent }), "http://localhost:3000/");
  const words = execFileSync("sh", ["-c", command.replace(/^curl/u, "printf '%s\\n'")], { encoding: "utf8" }).trimEnd().split("\n");
  assert.deepEqual(words.slice(0, 5), ["-sS", "-X", "POST", "http://localhost:3000/", "-H"]);
  assert.deepEqual(JSON.parse(words.at(-1)!), cloudevent);
});

test("simulate sets what differs from the sample, and no list", () => {
  const sample = xml("<xml><ToUserName><![CDATA[gh_1]]></ToUserName><Content>你好</Content><CreateTime>1</CreateTime><MsgId>7</MsgId></xml>");
  const data = { ToUserName: "gh_1", Content: "it's", CreateTime: 2, MsgId: 8, Sub: { Deep: 5 }, List: [{ A: 1 }] };
  assert.equal(
    simulate(story({ data }), sample),
    "echostr simulate mp/shop mp.message.text \\\n  --set 'Content=it'\\''s' \\\n  --set Sub.Deep=5",
  );
  assert.ok(simulate(story({ form: "json", data: {} }), sample).includes("--json"));
  assert.ok(!simulate(story({ form: "json", data: {} }), json('{"a":1}')).includes("--json"));
  assert.equal(simulate(story({}), null), "echostr simulate mp/shop mp.message.text");
});

test("samples are trees, whatever their form", () => {
  assert.deepEqual(sampleTree(xml("<xml>\n <a><![CDATA[x & y]]></a>\n <b><c>1 &lt; 2</c></b><d/><e>1</e><e>2</e><!-- n --></xml>")), {
    a: "x & y", b: { c: "1 < 2" }, d: "", e: ["1", "2"],
  });
  assert.deepEqual(sampleTree(json('{"a":{"b":1}}')), { a: { b: 1 } });
  for (const text of ["", "{", "</a>", "plain", "<xml>1</xml>"]) {
    assert.deepEqual(leaves(sampleTree(xml(text))), []);
    assert.deepEqual(leaves(sampleTree(json(text))), []);
  }
  assert.deepEqual(leaves(sampleTree(xml("<xml><__proto__>x</__proto__></xml>"))), [["__proto__", "x"]]);
  assert.deepEqual(leaves({ a: { b: true, c: null }, d: [1] }), [["a.b", "true"]]);
});

test("the URL for the console", () => {
  assert.equal(callbackUrl("", "/mp/shop"), "https://HOST/mp/shop");
  assert.equal(callbackUrl(" https://a.example/ ", "/mp/shop"), "https://a.example/mp/shop");
  assert.equal(callbackUrl("a.example", "/mp/shop"), "https://a.example/mp/shop");
});
