// What to do about a refused request, by its reason code (docs/refusals.md).

import type { Title } from "../api";

const stranger: Title = {
  en: "If this is not the platform's address, there is nothing to do: it was turned away.",
  zh: "如果来源不是平台的地址，无需处理：请求已被拒绝。",
};

export const ADVICE: Record<string, Title> = {
  missing_parameter: {
    en: "A browser or a scanner, if there is no query at all. Else see that the proxy passes the query on; for IM turn on callback authentication in the console.",
    zh: "完全没有查询串的，多半是浏览器或扫描器。否则检查代理是否转发了查询串；IM 要在控制台打开回调鉴权。",
  },
  repeated_parameter: {
    en: "Look for a rewrite or redirect in the proxy that adds the query a second time.",
    zh: "检查代理的 rewrite 或重定向，它可能把查询串加了两次。",
  },
  bad_query: stranger,
  wrong_signature: {
    en: "Compare the Token of the console with `token` of this account, character by character. If they are equal, the proxy changes the query: `+` must not become a space.",
    zh: "逐字比较管理后台的 Token 和这个账号的 `token`。如果一致，就是代理改动了查询串：`+` 不能变成空格。",
  },
  bad_nonce: {
    en: "Somebody tries captured text on this account. See docs/security.md; change the token if it goes on.",
    zh: "有人在用抓到的密文试探这个账号。见 docs/security.zh-CN.md；如果持续出现，请更换 Token。",
  },
  bad_timestamp: stranger,
  stale: {
    en: "Set the clock of this machine (NTP). If it is right, the request is an old one that somebody sent again.",
    zh: "校准本机时钟（NTP）。时钟没有问题的话，就是有人重发了旧请求。",
  },
  plaintext: {
    en: "Set the console to safe mode (安全模式), or write mode = \"plain\" for this account.",
    zh: "在管理后台改为安全模式，或者给这个账号写上 mode = \"plain\"。",
  },
  no_key: {
    en: "Enter the EncodingAESKey of the console as `aes_key`, or set the console to plain mode (明文模式).",
    zh: "把管理后台的 EncodingAESKey 填到 `aes_key`，或者在管理后台改为明文模式。",
  },
  replayed_query: {
    en: "Somebody sends a captured query with another body. Use safe mode, and keep queries out of access logs.",
    zh: "有人用抓到的查询串配上别的包体。请使用安全模式，访问日志不要记录查询串。",
  },
  bad_echo: {
    en: "Somebody wants a captured text decrypted. Nothing was given away; see docs/security.md.",
    zh: "有人想借 URL 验证解密抓到的密文，没有泄露任何内容，见 docs/security.zh-CN.md。",
  },
  reflected_answer: {
    en: "An answer of this server came back. If it is not an attack, a proxy mirrors traffic to it.",
    zh: "收到的是本服务自己的应答。如果不是攻击，就是代理把流量镜像了回来。",
  },
  undecryptable: {
    en: "Compare the EncodingAESKey of the console with `aes_key` of this account. After a change keep the old one in `aes_key_previous`.",
    zh: "比较管理后台的 EncodingAESKey 和这个账号的 `aes_key`。更换密钥时，把旧的留在 `aes_key_previous`。",
  },
  wrong_receive_id: {
    en: "Check `app_id` or `corp_id`, and that this URL is entered at the right account.",
    zh: "检查 `app_id` 或 `corp_id`，以及这个 URL 是否填在了正确的账号里。",
  },
  wrong_sdk_app_id: {
    en: "This URL is entered at another IM application: each has a URL of its own.",
    zh: "这个 URL 填到了另一个 IM 应用里，每个应用要用自己的 URL。",
  },
  bad_envelope: {
    en: "Check that the URL is entered at the right product. A WeCom bot and an application have different formats.",
    zh: "检查 URL 是否填在了对应的产品里：企业微信智能机器人和自建应用的格式不同。",
  },
  not_utf8: stranger,
  not_xml_or_json: stranger,
  bad_payload: stranger,
  unknown_account: {
    en: "No account has this path. Compare it with the callback URLs under Accounts.",
    zh: "没有账号使用这个路径，请与“账号”页中的回调 URL 对比。",
  },
  unexpected_source: {
    en: "The platform does not name this address as its own. If it is a proxy's, add it to `trusted_proxies` and have it send X-Forwarded-For; if it is the platform's, set source = \"warn\" and look at the log.",
    zh: "平台的地址列表里没有这个地址。如果是代理的地址，把它加进 `trusted_proxies`，并让代理发送 X-Forwarded-For；如果确实是平台的，先改为 source = \"warn\"，再看日志。",
  },
  unsigned_limit: {
    en: "This address sends a lot without a valid signature. Authentic deliveries are received all the same; if it is a proxy's address, add it to `trusted_proxies`.",
    zh: "这个地址发来大量没有有效签名的请求，真实的推送不受影响。如果是代理的地址，把它加进 `trusted_proxies`。",
  },
  wrong_method: stranger,
  too_large: {
    en: "Raise `body_limit` if the platform really sends bodies of this size.",
    zh: "如果平台确实会发送这么大的包体，请调大 `body_limit`。",
  },
  slow_body: {
    en: "The body came too slowly: look at the network to the proxy. The platform retries.",
    zh: "包体到达太慢，请检查代理到本服务的网络。平台会重试。",
  },
  broken_body: {
    en: "The connection ended early: look at the proxy's timeouts. The platform retries.",
    zh: "连接提前断开，请检查代理的超时设置。平台会重试。",
  },
  body_memory: {
    en: "Too many large bodies at once. The platform retries; raise `body_memory` if this goes on.",
    zh: "同时接收的大包体过多。平台会重试；如果持续出现，请调大 `body_memory`。",
  },
  blocked: {
    en: "A handler blocked its thread: the log names it. Move the work to `spawn_blocking`. The platform retries.",
    zh: "有响应函数阻塞了线程，日志中有它的名字。请把阻塞的工作移到 `spawn_blocking`。平台会重试。",
  },
  overloaded: {
    en: "Responders are too slow or hang. The platform retries; see the accounts in flight.",
    zh: "响应函数太慢或卡住了。平台会重试；请查看各账号正在处理的数量。",
  },
};
