//! What no platform sends: each input is refused for its reason, or acknowledged, and the server goes on.

use std::fmt::Write as _;

use echostr::hooks::Hooks;
use openssl::base64::encode_block;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    TestServer,
    http::{read_answer, request},
    platform::{Signed, WeChat},
    server::{COMPAT, IM, KF, MINI, MP, PLAIN, SECRETS, WECOM, event, text_message},
};

/// The time of every test, as it stands in a query.
const T: &str = "1735689600";

/// A row: what is sent, and the status and reason that come back.
struct Row {
    name: &'static str,
    bytes: Vec<u8>,
    status: u16,
    /// The body, or its beginning where the server answers before echostr sees a request.
    reason: &'static str,
}

fn row(name: &'static str, target: &str, body: impl AsRef<[u8]>, status: u16, reason: &'static str) -> Row {
    Row { name, bytes: request(target, body.as_ref()), status, reason }
}

fn raw(name: &'static str, bytes: impl AsRef<[u8]>, status: u16, reason: &'static str) -> Row {
    Row { name, bytes: bytes.as_ref().to_vec(), status, reason }
}

fn safe(name: &'static str, signed: &Signed, status: u16, reason: &'static str) -> Row {
    row(name, &format!("/mp/shop?{}", signed.query), &signed.body, status, reason)
}

fn plain(name: &'static str, payload: impl AsRef<[u8]>, status: u16, reason: &'static str) -> Row {
    // Every row has a nonce of its own: a query is used once.
    let query = PLAIN.plain_query(T, &name.replace(' ', "_"));
    row(name, &format!("/mp/plain?{query}"), payload, status, reason)
}

/// A delivery of this cipher text, signed as it should be.
fn sealed(name: &'static str, cipher: &str, reason: &'static str) -> Row {
    let body = format!("<xml><Encrypt><![CDATA[{cipher}]]></Encrypt></xml>");
    row(name, &format!("/mp/shop?{}", MP.sealed_query(cipher, T, "n")), body, 400, reason)
}

fn im(name: &'static str, query: &str, body: &str, status: u16, reason: &'static str) -> Row {
    row(name, &format!("/im/chat?{query}"), body, status, reason)
}

fn flip(text: &str, name: &str) -> String {
    let at = text.find(name).unwrap() + name.len();
    let digit = if &text[at..=at] == "0" { "1" } else { "0" };
    format!("{}{digit}{}", &text[..at], &text[at + 1..])
}

fn query_rows() -> Vec<Row> {
    let good = MP.safe(&text_message(1, "hi"), "nonce");
    let with = |query: String| Signed { query, body: good.body.clone() };
    let without = |name: &str| {
        let kept: Vec<_> = good.query.split('&').filter(|pair| !pair.starts_with(name)).collect();
        with(kept.join("&"))
    };
    let again = |pair: &str| with(format!("{}&{pair}", good.query));
    let at = |time: &str| {
        let sealed = MP.encrypt(&text_message(1, "hi"));
        let body = format!("<xml><Encrypt>{sealed}</Encrypt></xml>");
        Signed { query: MP.sealed_query(&sealed, time, "n"), body }
    };
    let upper = good.query.replacen(&msg_signature(&good), &msg_signature(&good).to_uppercase(), 1);
    vec![
        safe("no query", &with(String::new()), 403, "missing_parameter"),
        safe("no msg_signature", &without("msg_signature="), 403, "missing_parameter"),
        safe("no timestamp", &without("timestamp="), 403, "missing_parameter"),
        safe("no nonce", &without("nonce="), 403, "missing_parameter"),
        safe(
            "empty msg_signature",
            &with(format!("{}&msg_signature=", without("msg_signature=").query)),
            403,
            "missing_parameter",
        ),
        safe("empty nonce", &with(format!("{}&nonce=", without("nonce=").query)), 403, "missing_parameter"),
        safe("two msg_signatures", &again("msg_signature=0"), 400, "repeated_parameter"),
        safe("two timestamps", &again("timestamp=1"), 400, "repeated_parameter"),
        safe("two nonces, one escaped", &again("%6Eonce=1"), 400, "repeated_parameter"),
        safe("two encrypt_types", &again("encrypt_type=raw"), 400, "repeated_parameter"),
        safe("one bit of msg_signature", &with(flip(&good.query, "msg_signature=")), 403, "wrong_signature"),
        safe("one bit of nonce", &with(flip(&good.query, "nonce=")), 403, "wrong_signature"),
        safe("one second of timestamp", &with(good.query.replace(T, "1735689601")), 403, "wrong_signature"),
        safe("upper-case signature", &with(upper), 403, "wrong_signature"),
        safe(
            "signature of 39 digits",
            &with(good.query.replacen("msg_signature=", "msg_signature=%00", 1)),
            403,
            "wrong_signature",
        ),
        safe("invalid UTF-8 in the query", &again("x=%FF%FE"), 400, "bad_query"),
        safe("65 parameters", &with(format!("{}{}", good.query, "&a=b".repeat(65))), 400, "bad_query"),
        safe("stale", &at("1735688999"), 403, "stale"),
        safe("from the future", &at("1735690201"), 403, "stale"),
        safe("time with a sign", &at("+1735689600"), 403, "bad_timestamp"),
        safe("negative time", &at("-1735689600"), 403, "bad_timestamp"),
        safe("time in words", &at("now"), 403, "bad_timestamp"),
        safe("time beyond any clock", &at("99999999999999999999999"), 403, "bad_timestamp"),
    ]
}

fn msg_signature(signed: &Signed) -> String {
    signed.query.split('&').find_map(|pair| pair.strip_prefix("msg_signature=")).unwrap().to_owned()
}

fn cipher_rows() -> Vec<Row> {
    let text = text_message(1, "hi");
    let id = MP.receive_id.as_bytes();
    let good = MP.encrypt(&text);
    let other_id = WeChat { receive_id: "wx9999999999999999", ..MP };
    let other_key = WeChat { aes_key: WECOM.aes_key, ..MP };
    vec![
        sealed("empty cipher text", "", "undecryptable"),
        sealed("cut cipher text", &good[..good.len() - 1], "undecryptable"),
        sealed("cipher text without padding", good.trim_end_matches('='), "undecryptable").or_good(&good),
        sealed("cipher text with a line end", &format!("{good}\n"), "undecryptable"),
        sealed("cipher text in the URL alphabet", &format!("-_{}", &good[2..]), "undecryptable"),
        sealed("cipher text of nine bytes", &encode_block(b"ninebytes"), "undecryptable"),
        sealed("half a block more", &encode_block(&[7; 24]), "undecryptable"),
        sealed("noise", &encode_block(&[7; 64]), "undecryptable"),
        sealed("padding of 0", &MP.encrypt_padded(4, &[b"text", id].concat(), 22, 0), "undecryptable"),
        sealed("padding of 33", &MP.encrypt_padded(4, &[b"text", id].concat(), 22, 33), "undecryptable"),
        sealed("padding of 255", &MP.encrypt_padded(4, &[b"text", id].concat(), 22, 255), "undecryptable"),
        sealed("more padding than text", &MP.encrypt_blocks(&[32; 16]), "undecryptable"),
        sealed("nothing but padding", &MP.encrypt_blocks(&[32; 32]), "undecryptable"),
        sealed("shorter than its head", &MP.encrypt_blocks(&[16; 32]), "undecryptable"),
        sealed("length beyond the end", &MP.encrypt_raw(5000, &[b"text", id].concat()), "undecryptable"),
        sealed("length of four billion", &MP.encrypt_raw(u32::MAX, &[b"text", id].concat()), "undecryptable"),
        sealed("length in a character", &MP.encrypt_raw(1, &["你".as_bytes(), id].concat()), "undecryptable"),
        Row { status: 200, ..sealed("not text", &MP.encrypt_raw(2, &[&[0xFF, 0xFE], id].concat()), "success") },
        sealed("another account's key", &other_key.encrypt(&text), "undecryptable"),
        safe("wrong receive id", &other_id.safe(&text, "n"), 403, "wrong_receive_id"),
        safe("no receive id", &WeChat { receive_id: "", ..MP }.safe(&text, "n"), 403, "wrong_receive_id"),
        safe(
            "length short of the message",
            &{
                let cipher = MP.encrypt_raw(4, &[b"<xml></xml>", id].concat());
                Signed {
                    query: MP.sealed_query(&cipher, T, "n"),
                    body: format!("<xml><Encrypt>{cipher}</Encrypt></xml>"),
                }
            },
            403,
            "wrong_receive_id",
        ),
        safe("no text in the cipher", &MP.safe("", "n"), 200, "success"),
        safe("a word in the cipher", &MP.safe("hello", "n"), 200, "success"),
        safe("a list in the cipher", &MP.safe("[1,2]", "n"), 200, "success"),
        safe("broken XML in the cipher", &MP.safe("<xml><a></xml>", "n"), 200, "success"),
        safe("broken JSON in the cipher", &MP.safe("{\"a\":", "n"), 200, "success"),
    ]
}

impl Row {
    /// Where a text of this length needs no padding there is nothing to leave out.
    fn or_good(self, good: &str) -> Self {
        if good.ends_with('=') { self } else { Self { status: 200, reason: "success", ..self } }
    }
}

fn envelope_rows() -> Vec<Row> {
    let good = MP.safe(&text_message(1, "hi"), "n");
    let body = |body: &str| Signed { query: good.query.clone(), body: body.to_owned() };
    let plain_query = MP.plain_query(T, "n");
    let twice = good.body.replace("</xml>", "<Encrypt>x</Encrypt></xml>");
    let nested = good.body.replace("<Encrypt>", "<a><Encrypt>").replace("</Encrypt>", "</Encrypt></a>");
    vec![
        row("plaintext on a safe account", &format!("/mp/shop?{plain_query}"), text_message(1, "hi"), 403, "plaintext"),
        safe("plaintext with a sealed query", &body(&text_message(1, "hi")), 403, "plaintext"),
        safe("Encrypt of another request", &body(&MP.safe("<xml></xml>", "m").body), 403, "wrong_signature"),
        safe("two Encrypts", &body(&twice), 400, "bad_envelope"),
        safe("nested Encrypt", &body(&nested), 403, "plaintext"),
        safe("Encrypt with children", &body("<xml><Encrypt><a/></Encrypt></xml>"), 400, "bad_envelope"),
        safe("empty body", &body(""), 400, "not_xml_or_json"),
        safe("cut body", &body(&good.body[..40]), 400, "bad_payload"),
        safe("DTD around the envelope", &body(&format!("<!DOCTYPE xml>{}", good.body)), 400, "bad_payload"),
        row(
            "encrypted body on a plain account",
            &format!("/mp/plain?{}&encrypt_type=aes", PLAIN.plain_query(T, "n")),
            &good.body,
            403,
            "no_key",
        ),
        row(
            "wecom without Encrypt",
            &format!("/wecom/sales?{}", WECOM.sealed_query("x", T, "n")),
            "<xml><a/></xml>",
            400,
            "bad_envelope",
        ),
        row(
            "wecom for another company",
            &format!("/wecom/sales?{}", MP.sealed_query("x", T, "n")),
            "<xml><Encrypt>x</Encrypt></xml>",
            403,
            "wrong_signature",
        ),
        row(
            "kf with wecom's token",
            &format!("/wecom_kf/support?{}", WECOM.safe("<xml></xml>", "n").query),
            WECOM.safe("<xml></xml>", "n").body,
            403,
            "wrong_signature",
        ),
        row(
            "compat, encrypted, wrong",
            &format!("/mp/compat?{}", flip(&COMPAT.safe("<xml></xml>", "n").query, "msg_signature=")),
            COMPAT.safe("<xml></xml>", "n").body,
            403,
            "wrong_signature",
        ),
        row(
            "miniprogram of another account",
            &format!("/miniprogram/game?{}", MINI.safe("{}", "n").query),
            MP.safe("{}", "n").body,
            403,
            "wrong_signature",
        ),
    ]
}

fn payload_rows() -> Vec<Row> {
    let deep_xml = format!("<xml>{}{}</xml>", "<a>".repeat(64), "</a>".repeat(64));
    let deep_json = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let mut attributes = String::from("<xml><MsgType");
    for at in 0..60_000 {
        let _ = write!(attributes, " a{at}='1'");
    }
    attributes.push_str(">text</MsgType></xml>");
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]><xml><Content>&b;</Content></xml>";
    let external = "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><xml><Content>&a;</Content></xml>";
    let many = format!("<xml>{}</xml>", "<a/>".repeat(60_000));
    vec![
        plain("unknown message", "<xml><MsgType>hologram</MsgType></xml>", 200, "success"),
        plain("unknown event", event("no_such_event", ""), 200, "success"),
        plain("no MsgType at all", "<xml><a>1</a></xml>", 200, "success"),
        plain("misshapen known event", event("MASSSENDJOBFINISH", "<TotalCount>many</TotalCount>"), 200, "success"),
        plain(
            "object where text is promised",
            "<xml><MsgType>text</MsgType><Content><a>1</a></Content></xml>",
            200,
            "success",
        ),
        plain(
            "huge number",
            event("MASSSENDJOBFINISH", &format!("<TotalCount>{}</TotalCount>", "9".repeat(400))),
            200,
            "success",
        ),
        plain("byte-order mark", [b"\xEF\xBB\xBF", text_message(2, "bom").as_bytes()].concat(), 200, "success"),
        plain(
            "JSON on an XML account",
            r#"{"MsgType":"text","Content":"hi","MsgId":3,"FromUserName":"u"}"#,
            200,
            "success",
        ),
        plain("sixty thousand attributes", attributes, 200, "success"),
        plain("invalid UTF-8", b"<xml><Content>\xFF\xFE</Content></xml>", 200, "success"),
        plain("NUL", "<xml><Content>a\0b</Content></xml>", 200, "success"),
        plain("reference to NUL", "<xml><Content>&#0;</Content></xml>", 200, "success"),
        plain("reference to no character", "<xml><Content>&#xFFFFFFFF;</Content></xml>", 200, "success"),
        plain("deep XML", deep_xml, 200, "success"),
        plain("deep JSON", deep_json, 200, "success"),
        plain("too many elements", many, 200, "success"),
        plain("entity bomb", bomb, 200, "success"),
        plain("external entity", external, 200, "success"),
        plain("unknown entity", "<xml><Content>&nbsp;</Content></xml>", 200, "success"),
        plain("two roots", "<xml></xml><xml></xml>", 200, "success"),
        plain("text after the root", "<xml></xml>more", 200, "success"),
        plain("crossed tags", "<xml><a><b></a></b></xml>", 200, "success"),
        plain("cut CDATA", "<xml><a><![CDATA[hello", 200, "success"),
        plain("JSON with a tail", "{\"MsgType\":\"text\"} {}", 200, "success"),
        plain("number beyond JSON", "{\"MsgType\":\"text\",\"CreateTime\":1e999}", 200, "success"),
        plain("nothing but blanks", "  \r\n ", 200, "success"),
        plain("a form", "a=1&b=2", 200, "success"),
    ]
}

fn im_rows() -> Vec<Row> {
    let good = IM.query("State.StateChange", T);
    let body = r#"{"CallbackCommand":"State.StateChange"}"#;
    let ok = r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#;
    let kept = |name: &str| good.split('&').filter(|pair| !pair.starts_with(name)).collect::<Vec<_>>().join("&");
    vec![
        im("im without Sign", &kept("Sign="), body, 403, "missing_parameter"),
        im("im without RequestTime", &kept("RequestTime="), body, 403, "missing_parameter"),
        im("im without SdkAppid", &kept("SdkAppid="), body, 403, "missing_parameter"),
        im("im, wrong Sign", &flip(&good, "Sign="), body, 403, "wrong_signature"),
        im("im, two Signs", &format!("{good}&Sign=0"), body, 400, "repeated_parameter"),
        im(
            "im, two commands",
            &format!("{good}&CallbackCommand=Alert.RequestOverLimit"),
            body,
            400,
            "repeated_parameter",
        ),
        im("im of another application", &good.replace("1400000001", "1400000003"), body, 403, "wrong_sdk_app_id"),
        im("im, application with zeros", &good.replace("1400000001", "01400000001"), body, 403, "wrong_sdk_app_id"),
        im("im, a minute old", &IM.query("State.StateChange", "1735689539"), body, 403, "stale"),
        im("im, time in words", &IM.query("State.StateChange", "soon"), body, 403, "bad_timestamp"),
        im("im, unknown command", &IM.query("Group.CallbackNobodyKnows", T), "{\"a\":1}", 200, ok),
        im("im, command in another case", &IM.query("state.statechange", T), "{}", 200, ok),
        im("im, XML", &good, "<xml></xml>", 200, ok),
        im("im, list", &good, "[]", 200, ok),
        im("im, cut JSON", &good, "{\"a\":", 200, ok),
        im("im, lone surrogate", &good, "{\"a\":\"\\ud800\"}", 200, ok),
        im("im, empty body", &good, "", 200, ok),
    ]
}

fn http_rows() -> Vec<Row> {
    let target = format!("/mp/plain?{}", PLAIN.plain_query(T, "http"));
    let head = format!("POST {target} HTTP/1.1\r\nHost: test\r\n");
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
    let echo = format!("{}&echostr=", PLAIN.plain_query(T, "echo"));
    let many_headers: String = (0..100).fold(String::new(), |mut text, at| {
        let _ = write!(text, "X-{at}: 1\r\n");
        text
    });
    vec![
        raw("unknown account", get("/mp/nobody?x=1"), 404, "unknown_account"),
        raw("no path", get("/"), 404, "unknown_account"),
        raw("path that climbs", get("/mp/../../etc/passwd"), 404, "unknown_account"),
        raw("escaped path", get("/mp%2Fplain"), 404, "unknown_account"),
        raw("PUT", format!("PUT {target} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"), 405, "wrong_method"),
        raw("DELETE", format!("DELETE {target} HTTP/1.1\r\nHost: test\r\n\r\n"), 405, "wrong_method"),
        raw("GET of im", get("/im/chat?SdkAppid=1400000001"), 405, "wrong_method"),
        raw("GET without echostr", get(&format!("/mp/plain?{}", PLAIN.plain_query(T, "e"))), 403, "missing_parameter"),
        raw("GET, wrong signature", get(&flip(&format!("/mp/plain?{echo}1"), "signature=")), 403, "wrong_signature"),
        raw("GET, echo with a script", get(&format!("/mp/plain?{echo}%3Cscript%3E")), 400, "bad_query"),
        raw("GET, echo with a line end", get(&format!("/mp/plain?{echo}a%0D%0ASet-Cookie:%20a")), 400, "bad_query"),
        raw("GET, echo of two kilobytes", get(&format!("/mp/plain?{echo}{}", "a".repeat(2048))), 400, "bad_query"),
        raw(
            "GET of wecom, echo in the clear",
            get(&format!("/wecom/sales?{}&echostr=hello", WECOM.sealed_query("hello", T, "n"))),
            400,
            "undecryptable",
        ),
        raw("two lengths", format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"), 400, ""),
        raw(
            "length and chunks",
            format!(
                "{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /mp/shop HTTP/1.1\r\n\r\n"
            ),
            200,
            "success",
        ),
        raw("unknown transfer coding", format!("{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), 400, ""),
        raw(
            "chunk without a size",
            format!("{head}Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n0\r\n\r\n"),
            400,
            "broken_body",
        ),
        raw(
            "chunk of any size",
            format!("{head}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n"),
            400,
            "broken_body",
        ),
        raw("folded header", format!("{head}X: a\r\n b\r\nContent-Length: 0\r\n\r\n"), 400, ""),
        raw("negative length", format!("{head}Content-Length: -1\r\n\r\n"), 400, ""),
        raw("a hundred headers", format!("{head}{many_headers}\r\n"), 431, ""),
        raw("endless header", format!("{head}X: {}\r\n\r\n", "a".repeat(70_000)), 431, ""),
        raw("endless target", format!("GET /mp/plain?{} HTTP/1.1\r\nHost: test\r\n\r\n", "a".repeat(70_000)), 431, ""),
        raw("body over the limit, announced", format!("{head}Content-Length: 2000000\r\n\r\n"), 413, "too_large"),
        raw(
            "body over the limit, in chunks",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n", 20_000, "a".repeat(20_000)),
            413,
            "too_large",
        ),
        raw("NUL in the target", b"GET /mp/pl\0ain HTTP/1.1\r\nHost: test\r\n\r\n", 400, ""),
        raw("not HTTP", "SSH-2.0-nothing\r\n\r\n", 400, ""),
    ]
}

#[tokio::test]
async fn every_bad_input_is_refused_and_the_server_goes_on() {
    let server =
        TestServer::start_with("body_limit = \"16KiB\"", crate::support::server::ACCOUNTS, Hooks::default()).await;
    let large = TestServer::start(Hooks::default()).await;
    let rows = [query_rows(), cipher_rows(), envelope_rows(), im_rows(), http_rows()].into_iter().flatten();
    let rows = rows.map(|row| (&server, row)).chain(payload_rows().into_iter().map(|row| (&large, row)));
    let mut wrong = Vec::new();
    for (at, (server, row)) in rows.enumerate() {
        let answer = server.http.send(&row.bytes).await;
        if answer.status != row.status || (!row.reason.is_empty() && answer.body != row.reason) {
            wrong.push(format!(
                "{}: {} {:?}, expected {} {:?}",
                row.name, answer.status, answer.body, row.status, row.reason
            ));
        }
        for secret in SECRETS {
            assert!(!answer.body.contains(secret) && !answer.head.contains(secret), "{} shows a secret", row.name);
        }
        let id = 1_000 + u64::try_from(at).unwrap();
        let good = server.post("/mp/shop", &MP.safe(&text_message(id, "good"), "good")).await;
        assert_eq!((good.status, good.body.as_str()), (200, "success"), "after {}", row.name);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_captured_plain_query_carries_no_other_body() {
    let server = TestServer::start(Hooks::default()).await;
    let first = PLAIN.plain(&text_message(1, "pay 1"), "captured");
    let forged = Signed { query: first.query.clone(), body: text_message(2, "pay 1000000") };
    assert_eq!(server.post("/mp/plain", &first).await.status, 200);
    let refused = server.post("/mp/plain", &forged).await;
    assert_eq!((refused.status, refused.body.as_str()), (403, "replayed_query"));
    // Digits moved from the time to the nonce keep the signature, and are no way around.
    let moved =
        Signed { query: first.query.replace("timestamp=1735689600&nonce=", "timestamp=173568960&nonce=0"), ..forged };
    assert_eq!(server.post("/mp/plain", &moved).await.status, 403);
    // The platform's own repeat is identical.
    assert_eq!(server.post("/mp/plain", &first).await.status, 200);
    assert_eq!(server.metric("echostr_deliveries_total{platform=\"mp\",account=\"plain\",outcome=\"refused\",reason=\"replayed_query\"}").await, 1.0);
}

/// A compatible account takes clear text: the query of an encrypted delivery must not carry any.
#[tokio::test]
async fn a_captured_query_of_an_encrypted_delivery_carries_no_clear_text() {
    let server = TestServer::start(Hooks::default()).await;
    let sealed = COMPAT.safe(&text_message(1, "pay 1"), "captured");
    // The platform sends both signatures in this mode.
    let clear = COMPAT.plain_query(T, "captured");
    let signature = clear.split('&').next().unwrap();
    let first = Signed { query: format!("{signature}&{}", sealed.query), ..sealed };
    assert_eq!(server.post("/mp/compat", &first).await.status, 200);
    let forged = Signed { query: clear.clone(), body: text_message(2, "pay 1000000") };
    let refused = server.post("/mp/compat", &forged).await;
    assert_eq!((refused.status, refused.body.as_str()), (403, "replayed_query"));
    // The repeat of the platform is not refused, nor is another delivery.
    assert_eq!(server.post("/mp/compat", &first).await.status, 200);
    assert_eq!(server.post("/mp/compat", &COMPAT.plain(&text_message(3, "hi"), "other")).await.status, 200);
}

#[tokio::test]
async fn a_captured_encrypted_query_carries_no_clear_text() {
    let server = TestServer::start(Hooks::default()).await;
    let sealed = COMPAT.safe(&text_message(1, "pay 1"), "captured");
    let clear = COMPAT.plain_query(T, "captured");
    let first = Signed {
        query: format!("{}&{clear}", sealed.query.replace("&timestamp=1735689600&nonce=captured", "")),
        ..sealed
    };
    assert_eq!(server.post("/mp/compat", &first).await.status, 200);
    let forged = Signed { query: clear.clone(), body: text_message(2, "pay 1000000") };
    assert_eq!(server.post("/mp/compat", &forged).await.body, "replayed_query");
    // The envelope itself is no message either, whatever the query says.
    let stripped = Signed { query: clear, body: first.body };
    assert_eq!(server.post("/mp/compat", &stripped).await.body, "missing_parameter");
}

#[tokio::test]
async fn slow_clients_hold_nothing() {
    let lines = "header_timeout = \"100ms\"\nbody_timeout = \"100ms\"\nkeep_alive = \"1s\"";
    let server = TestServer::start_with(lines, crate::support::server::ACCOUNTS, Hooks::default()).await;
    // Half a head, nothing at all: the connection ends.
    for bytes in [&b"POST /mp/shop HTTP/1.1\r\nHost: te"[..], b""] {
        let mut stream = server.http.open(bytes).await;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
    // A head that trickles does not start the clock anew.
    let mut stream = server.http.open(b"POST /mp/shop HTTP/1.1\r\n").await;
    let (mut read, mut write) = stream.split();
    let trickle = async {
        while write.write_all(b"X: 1\r\n").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = trickle => {}
        _ = read.read_to_end(&mut rest) => {}
    }
    assert_eq!(String::from_utf8_lossy(&rest), "");
    // Half a body is refused.
    let head = format!(
        "POST /mp/plain?{} HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n<xml>",
        PLAIN.plain_query(T, "n")
    );
    let mut stream = server.http.open(head.as_bytes()).await;
    let answer = read_answer(&mut stream).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (408, "slow_body"));
    let good = server.post("/mp/shop", &MP.safe(&text_message(1, "good"), "good")).await;
    assert_eq!(good.body, "success");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_harms_nobody() {
    let server = TestServer::start(Hooks::default()).await;
    let signed = KF.safe("<xml><MsgType>event</MsgType></xml>", "n");
    let whole = request(&format!("/wecom_kf/support?{}", signed.query), signed.body.as_bytes());
    for cut in (1..whole.len()).step_by(37) {
        drop(server.http.open(&whole[..cut]).await);
    }
    assert_eq!(server.http.send(&whole).await.status, 200);
}
