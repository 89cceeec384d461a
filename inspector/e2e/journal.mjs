// Many events at once: as SQL for a journal of SQLite, because sending so many takes minutes. Tables: src/journal/sqlite/schema.rs.

const TYPES = [
  ["mp/shop", "mp.message.text", 0],
  ["mp/shop", "mp.event.subscribe", 0],
  ["wecom/team", "wecom.message.text", 0],
  ["im/chat", "im.command.sns.friend_add", 1],
];

const hex = (number, digits) => number.toString(16).padStart(digits, "0");
const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

/** The last word of one payload in `count`, which no other has. */
export const NEEDLE = "needle-in-the-haystack";

function payload(form, type, index, subject, seconds) {
  const content = index === 7 ? `${NEEDLE} 你好` : `message ${index} 你好`;
  if (form === 1) return JSON.stringify({ CallbackCommand: "Sns.CallbackFriendAdd", From_Account: subject, Note: content });
  const kind = type.includes("message") ? "text" : "event";
  return `<xml><ToUserName><![CDATA[gh_inspector]]></ToUserName><FromUserName><![CDATA[${subject}]]></FromUserName><CreateTime>${seconds}</CreateTime><MsgType><![CDATA[${kind}]]></MsgType>${
    kind === "text" ? `<Content><![CDATA[${content}]]></Content><MsgId>${10_000_000 + index}</MsgId>` : "<Event><![CDATA[subscribe]]></Event>"
  }</xml>`;
}

/** SQL that adds so many events, one every 500 ms up to now. */
export function* events(count, now = Date.now()) {
  yield "BEGIN;\n";
  for (let index = 0; index < count; index += 1) {
    const [account, type, form] = TYPES[index % TYPES.length];
    const millis = now - (count - index) * 500;
    // As src/journal/id.rs makes them: milliseconds, version 7, a counter, and what is random.
    const id = `${hex(millis, 12)}7001${"8000"}${hex(index, 12)}`;
    const seq = BigInt(millis) * 4096n + 1n;
    const subject = `oUser${index % 997}`;
    const state = index % 50 === 9 ? 2 : 1;
    const text = payload(form, type, index, subject, Math.floor(millis / 1000));
    const failure = state === 2 ? "'the responder failed: no article'" : "NULL";
    yield `INSERT INTO event VALUES (${seq}, X'${id}', '${account}', '${type}', '${subject}', ${form}, ${quoted(text)}, NULL, ${millis}, 1, ${state}, NULL, ${failure}, NULL);\n`;
  }
  yield "COMMIT;\n";
}
