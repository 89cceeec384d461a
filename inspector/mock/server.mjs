// A server with the routes of the event API and made-up events, for work on the page without Rust, and for states that are
// hard to bring about: a breaker that is open, a token that cannot be refreshed, a journal that is nearly full.
//
//   node mock/server.mjs [PORT]        the token is "demo"; run `npm run build` first
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { gunzipSync } from "node:zlib";

const port = Number(process.argv[2] ?? 9180);
const file = (name) => readFileSync(new URL(`../dist/${name}`, import.meta.url));
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";
const TOKEN = "demo";

const TYPES = [
  ["mp.message.text", "Text message", "文本消息", "answered"],
  ["mp.event.subscribe", "User followed the account", "关注公众号", "answered"],
  ["mp.event.click", "Menu click", "点击菜单", "defaulted"],
  ["wecom.message.text", "Text message", "文本消息", "late"],
  ["im.command.sns.prev_friend_add", "Before friends are added", "添加好友之前", "answered"],
  ["wecom_bot.message.text", "Text message to the bot", "智能机器人文本消息", "responding"],
];

const xml = (fields) =>
  `<xml>${Object.entries(fields)
    .map(([name, value]) => `<${name}>${typeof value === "number" ? value : `<![CDATA[${value}]]>`}</${name}>`)
    .join("")}</xml>`;

let serial = 0;
function makeEvent(at, index = serial) {
  serial += 1;
  const [type, en, zh, state] = TYPES[index % TYPES.length];
  const platform = type.split(".")[0];
  const time = at.getTime();
  const id = `${time.toString(16).padStart(12, "0").replace(/^(.{8})/, "$1-")}-7${String(index % 1000).padStart(3, "0")}-8a1b-${serial.toString(16).padStart(12, "0")}`;
  const subject = index % 7 === 6 ? null : platform === "im" ? "u_3101" : `oUser${String(index % 9).padStart(4, "0")}fX2kPq9`;
  const content = index % 12 === 0 ? '<img src=x onerror="alert(1)"><script>alert(2)</script> 你好' : "请问今天几点关门？";
  const data =
    platform === "im"
      ? { CallbackCommand: "Sns.CallbackPrevFriendAdd", Requester_Account: "u_3101", FriendItem: [{ To_Account: "u_3107", Remark: "小王" }, { To_Account: "u_3108" }], EventTime: time }
      : { ToUserName: "gh_0123456789ab", FromUserName: subject ?? "oUser", CreateTime: Math.floor(time / 1000), MsgType: type.includes("message") ? "text" : "event", Content: content, MsgId: 23400000000000000n.toString() };
  const form = platform === "im" || platform === "wecom_bot" ? "json" : "xml";
  const summary = {
    id, time: at.toISOString(), account: `${platform}/${platform === "mp" ? "shop" : "demo"}`, platform, type,
    title: { en, zh }, subject, state, deliveries: index % 5 === 3 ? 3 : 1, duration_ms: index % 7 ? index * 1.7 : null, has_reply: index % 3 === 0,
    failure: state === "defaulted" ? "the responder failed: no article for the menu key `SALE`" : state === "late" ? "sent through the API 1.9 s later" : null,
  };
  const observations = [
    { observer: "crm", state: "done", due: null, attempts: 1, error: null },
    { observer: "orders-webhook", state: index % 4 === 1 ? "dead" : index % 4 === 2 ? "waiting" : "done", due: index % 4 === 0 ? null : new Date(time + (index % 4 === 2 ? 300_000 : 0)).toISOString(), attempts: index % 4 === 1 ? 8 : index % 4 === 2 ? 3 : 1, error: index % 4 === 1 || index % 4 === 2 ? "POST https://orders.internal.example/hook: 503 Service Unavailable (upstream connect error)" : null },
  ];
  return {
    ...summary, form, payload: form === "xml" ? xml(data) : JSON.stringify(data), data,
    reply: summary.has_reply ? xml({ ToUserName: subject ?? "", FromUserName: "gh_0123456789ab", CreateTime: Math.floor(time / 1000), MsgType: "text", Content: "您好，我们营业到 22:00。" }) : null,
    cloudevent: { specversion: "1.0", id, source: `/${summary.account}`, type, subject, time: at.toISOString(), datacontenttype: "application/json", data },
    observations,
  };
}

const COUNT = Number(process.env.EVENTS ?? 400);
const events = Array.from({ length: COUNT }, (_, index) => makeEvent(new Date(Date.now() - (COUNT - index) * 47_000)));
const SUMMARY = ["id", "time", "account", "platform", "type", "title", "subject", "state", "deliveries", "duration_ms", "has_reply", "failure"];
const summaryOf = (event) => Object.fromEntries(SUMMARY.map((name) => [name, event[name]]));

const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
const refusals = [
  { time: ago(40), account: "mp/shop", method: "POST", path: "/mp/shop", parameters: ["signature", "timestamp", "nonce", "msg_signature"], count: 2, reason: "wrong_signature", step: "signature", hint: "`msg_signature` does not match: the token of the console differs from the configured one, or query and body are of different requests", client: "203.0.113.7" },
  { time: ago(600), account: "wecom/demo", method: "GET", path: "/wecom/demo", parameters: ["msg_signature", "timestamp", "nonce", "echostr"], count: 1, reason: "undecryptable", step: "decryption", hint: "none of the AES keys opens it: the EncodingAESKey of the console differs", client: "203.0.113.9" },
  { time: ago(4000), account: "im/demo", method: "POST", path: "/im/demo", parameters: ["SdkAppid", "CallbackCommand"], count: 1, reason: "missing_parameter", step: "signature", hint: "`Sign` is missing; is callback authentication (回调鉴权) on in the console?", client: "198.51.100.20" },
  { time: ago(90000), account: null, method: "POST", path: "/wechat", parameters: [], count: 12, reason: "unknown_account", step: null, hint: "the nearest path is /mp/shop", client: "198.51.100.20" },
];
let dead = events.flatMap((event) => event.observations.filter(({ state }) => state === "dead").map((observation) => ({ event: summaryOf(event), observer: observation.observer, attempts: observation.attempts, error: observation.error, died: event.time }))).reverse().slice(0, 30);
const account = (id, more) => ({
  id, platform: id.split("/")[0], name: id.split("/")[1], path: `/${id}`, url_path_hint: `https://HOST/${id}`, mode: "safe", has_secret: false, late_reply: "drop",
  last_event: ago(45), deliveries: { answered: 18234, acknowledged: 210, defaulted: 12, repeated: 88, verified: 3 }, refused: 2, in_flight: 1,
  token: null, connection: null, source: null, rates: Array.from({ length: 60 }, (_, i) => Math.round(20 + 15 * Math.sin(i / 7) + (i * 7919 % 11))), latencies_ms: { p50: 3.1, p95: 18, p99: 410 }, ...more,
});
const accounts = [
  account("mp/shop", { has_secret: true, late_reply: "send", token: { state: "valid", expires: new Date(Date.now() + 5_400_000).toISOString() }, source: { check: "enforce", addresses: 24, fetched: ago(30000) } }),
  account("wecom/demo", { refused: 1, source: { check: "warn", addresses: null, fetched: null } }),
  account("im/demo", { refused: 1, token: { state: "refused", expires: null } }),
  account("openplatform/demo", { rates: Array(60).fill(0), latencies_ms: null, last_event: null, refused: 0, deliveries: {} }),
  account("wecom_bot/demo", { path: null, url_path_hint: null, connection: { state: "kicked", text: "another client has taken the connection" } }),
];
const sample = (type) => (type.startsWith("im") ? JSON.stringify({ CallbackCommand: "Sns.CallbackPrevFriendAdd", Requester_Account: "u_3101", From_Account: "u_3101", EventTime: 1700000000000 }, null, 1) : xml({ ToUserName: "gh_0123456789ab", FromUserName: "oUser0001fX2kPq9", CreateTime: 1700000000, MsgType: "text", Content: "你好", MsgId: 23400000000000000n.toString() }));
const catalog = TYPES.map(([type, en, zh]) => ({ type, platform: type.split(".")[0], name: { en, zh }, kind: type.split(".")[1], sample: { form: type.startsWith("im") ? "json" : "xml", payload: sample(type) } }));
const observers = () => [
  { name: "crm", internal: false, absent_since: null, pending: 0, oldest: null, dead: 0 },
  { name: "orders-webhook", internal: false, absent_since: null, pending: 41, oldest: ago(750), dead: dead.length },
  { name: "leavers", internal: false, absent_since: ago(200000), pending: 3, oldest: ago(300000), dead: 0 },
  { name: "echostr.late-reply", internal: true, absent_since: null, pending: 0, oldest: null, dead: 0 },
];
const forward = (name, to, more) => ({ name, observer: `forward.${name}`, to, state: "ok", why: null, since: null, failures: 0, last_success: ago(4), pending: 0, oldest: null, lag_ms: null, dead: 0, ...more });
const forwards = [
  forward("crm", "https://crm.internal.example/events"),
  forward("orders", "https://orders.internal.example/hook", { state: "open", why: "503 Service Unavailable (upstream connect error)", since: ago(750), failures: 14, pending: 41, oldest: ago(750), lag_ms: 750_000, dead: 2 }),
  forward("legacy", "http://10.0.0.8/wechat", { state: "paused", why: "410 Gone", since: ago(90_000), failures: 1, last_success: null, pending: 3, oldest: ago(90_000), lag_ms: 90_000_000 }),
  forward("search", "https://search.internal.example/ingest", { state: "slowed", why: "429 Too Many Requests, Retry-After: 30", since: ago(12), failures: 1, pending: 9, oldest: ago(30), lag_ms: 30_000 }),
];

const streams = new Set();
setInterval(() => {
  const event = makeEvent(new Date());
  events.push(event);
  for (const send of streams) send(event);
}, Number(process.env.EVERY ?? 4000)).unref();

function select(query) {
  const starts = (value, pattern) => (pattern.endsWith("*") ? value.startsWith(pattern.slice(0, -1)) : value === pattern);
  return events.filter(
    (event) =>
      ["platform", "account", "subject", "state"].every((name) => !query.get(name) || event[name] === query.get(name)) &&
      (!query.get("type") || starts(event.type, query.get("type"))) &&
      (!query.get("since") || event.time >= query.get("since")) &&
      (!query.get("text") || event.payload.includes(query.get("text"))),
  );
}

function page(all, query, idOf) {
  const limit = Number(query.get("limit") ?? 50);
  const before = query.get("before");
  const older = before ? all.filter((item) => idOf(item) < before) : all;
  const shown = older.slice(-limit).reverse();
  return { shown, next: older.length > limit ? idOf(shown.at(-1)) : null };
}

async function bodyOf(request) {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text ? JSON.parse(text) : {};
}

const routes = {
  "GET /v1/info": () => ({ version: "0.9.0", started: ago(190000), token: true, masked: true, journal: { kind: "sqlite", bytes: 734003200, max_bytes: 1073741824 }, ready: { ok: true, reason: null } }),
  "GET /v1/events": (query) => {
    const { shown, next } = page(select(query), query, ({ id }) => id);
    return { events: shown.map(summaryOf), next };
  },
  "GET /v1/dead": (query) => {
    const found = dead.filter((letter) => (!query.get("observer") || letter.observer === query.get("observer")) && (!query.get("account") || letter.event.account === query.get("account")));
    return { letters: found, next: null };
  },
  "POST /v1/dead/retry": (_, { letters }) => ({ retried: remove(letters) }),
  "POST /v1/dead/drop": (_, { letters }) => ({ dropped: remove(letters) }),
  "GET /v1/observers": () => ({ observers: observers() }),
  "GET /v1/refusals": () => ({ refusals }),
  "GET /v1/accounts": () => ({ accounts }),
  "GET /v1/forwards": () => ({ forwards }),
  "GET /v1/catalog": () => ({ types: catalog }),
  "POST /v1/samples": (_, { type }) => {
    const event = makeEvent(new Date(), TYPES.findIndex(([name]) => name === type));
    events.push(event);
    for (const send of streams) send(event);
    return { status: 200, reply: event.reply, event: event.id, error: null };
  },
};

function remove(letters) {
  const before = dead.length;
  dead = dead.filter((letter) => !letters.some(({ event, observer }) => event === letter.event.id && observer === letter.observer));
  return before - dead.length;
}

createServer(async (request, response) => {
  const url = new URL(request.url, "http://mock");
  const send = (status, type, body, headers = {}) => {
    response.writeHead(status, { "content-type": type, "cache-control": "no-store", ...headers });
    response.end(body);
  };
  const json = (status, body) => send(status, "application/json", JSON.stringify(body));
  if (url.pathname === "/") return send(200, "text/html; charset=utf-8", file("index.html"), { "content-security-policy": CSP });
  if (url.pathname === "/assets/app.js") return send(200, "text/javascript; charset=utf-8", gunzipSync(file("app.js.gz")));
  if (url.pathname === "/assets/app.css") return send(200, "text/css; charset=utf-8", gunzipSync(file("app.css.gz")));
  if (url.pathname === "/assets/icon.svg") return send(200, "image/svg+xml", file("icon.svg"));
  if (url.pathname === "/session") {
    if (request.method === "DELETE") return send(204, "text/plain", "", { "set-cookie": "session=; Max-Age=0; HttpOnly; SameSite=Strict; Path=/" });
    const { token } = await bodyOf(request);
    if (token !== TOKEN) return json(401, { error: { code: "unauthorized", message: "the token is wrong" } });
    return send(204, "text/plain", "", { "set-cookie": "session=1; HttpOnly; SameSite=Strict; Path=/" });
  }
  if (!(request.headers.cookie ?? "").includes("session=1")) return json(401, { error: { code: "unauthorized", message: "sign in" } });
  if (url.pathname === "/v1/events/stream") {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.write(": hello\n\n");
    const push = (event) => {
      if (select(url.searchParams).includes(event)) response.write(`event: event\nid: ${event.id}\ndata: ${JSON.stringify(summaryOf(event))}\n\n`);
    };
    streams.add(push);
    request.on("close", () => streams.delete(push));
    return undefined;
  }
  const one = /^\/v1\/events\/([^/]+)(\/replay)?$/.exec(url.pathname);
  if (one) {
    const event = events.find(({ id }) => id === one[1]);
    if (!event) return json(404, { error: { code: "not_found", message: `no event ${one[1]}` } });
    return json(200, one[2] ? { queued: 2 } : event);
  }
  const route = routes[`${request.method} ${url.pathname}`];
  if (!route) return json(404, { error: { code: "not_found", message: "no such route" } });
  return json(200, route(url.searchParams, request.method === "POST" ? await bodyOf(request) : null));
}).listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${port}/  token: ${TOKEN}`));
