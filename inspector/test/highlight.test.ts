import assert from "node:assert/strict";
import { test } from "node:test";
import { highlight, LONGEST, pretty } from "../src/highlight";

const TEXTS = [
  "",
  "success",
  "<xml><a>1</a><b><![CDATA[<i>]]></b></xml>",
  "<xml><!-- <a> --><?pi x?><a b='>'/></xml>",
  "<xml><a>1 < 2</a>",
  "<![CDATA[never ends",
  "<",
  "<<<>>>",
  '{"a":[1,-2.5e3,true,null],"b":{"c":"d\\"e"}}',
  '{"a": 12345678901234567890, "b": "',
  "[[[[",
  '{"never": "ends',
  "{'not': json}",
  '<img src=x onerror="alert(1)"><script>alert(2)</script>',
  "{\u0000\u2028\ud83d}",
];

for (const text of TEXTS) {
  test(`the pieces are the text: ${JSON.stringify(text)}`, () => {
    assert.equal(highlight(text).map((token) => token.text).join(""), text);
    assert.equal(highlight(pretty(text)).map((token) => token.text).join(""), pretty(text));
  });
}

const kinds = (text: string) => Object.fromEntries(highlight(text).map((token) => [token.text, token.kind]));

test("names, values and marks", () => {
  assert.deepEqual(kinds('{"a": "b", "n": 1, "t": true}'), {
    "{": "mark", '"a"': "name", ":": "mark", " ": "space", '"b"': "text", ",": "mark", '"n"': "name", "1": "number", '"t"': "name", true: "word", "}": "mark",
  });
  const xml = kinds("<xml><Content><![CDATA[<b>]]></Content><MsgId>12</MsgId></xml>");
  assert.equal(xml.Content, "name");
  assert.equal(xml["<b>"], "text");
  assert.equal(xml["12"], "number");
  assert.equal(xml["<![CDATA["], "mark");
});

test("indents, and leaves values as they are", () => {
  assert.equal(
    pretty("<xml><a><![CDATA[ x\n y ]]></a><b/><c><d>1</d></c><e></e></xml>"),
    "<xml>\n  <a><![CDATA[ x\n y ]]></a>\n  <b/>\n  <c>\n    <d>1</d>\n  </c>\n  <e></e>\n</xml>",
  );
  assert.equal(pretty('{"a":12345678901234567890,"b":[],"c":[1,{"d":"x, y"}]}'), '{\n  "a": 12345678901234567890,\n  "b": [],\n  "c": [\n    1,\n    {\n      "d": "x, y"\n    }\n  ]\n}');
});

test("what is not well-formed stays as it came", () => {
  for (const text of ["<xml><a></xml></b></a>", "<a>", "{]", '{"a":', "{'a':1}", "</a>"]) assert.equal(pretty(text), text);
});

test("a long text is one piece, at once", () => {
  for (const text of [`{"a":"${"x".repeat(LONGEST)}"}`, "<".repeat(LONGEST + 1)]) assert.equal(highlight(text).length, 1);
  // And below the limit no text takes long.
  for (const piece of ["<", "<![CDATA[", "<!--", '"\\', "[", "<a>", "</a", "{", '":']) {
    const text = piece.repeat(LONGEST / piece.length);
    assert.equal(highlight(pretty(text)).map((token) => token.text).join(""), pretty(text));
  }
});
