//! What a sender can make the server do: it is bounded by what platforms send, and before a signature is checked by what
//! an envelope has. `scripts/cost.sh` measures it.

use std::fmt::Write as _;

use echostr::{
    events::{im, mp, wecom},
    hooks::{Context, HandlerError, Hooks, RawEvent},
    replies::{RawReply, im::BeforeFriendAddResp, mp::Reply},
};
use tokio::sync::mpsc;

use crate::support::{
    Log, TestServer,
    platform::Signed,
    server::{BOT, COMPAT, KF, MINI, MP, OPEN, PLAIN, SUITE, WECOM, event, text_message},
};

/// A query with every parameter that a platform sends, and a signature of nobody.
const FORGED: &str = "signature=0000000000000000000000000000000000000000&timestamp=1735689600&nonce=n\
                      &msg_signature=0000000000000000000000000000000000000000&encrypt_type=aes";

/// A document of so many members, of which the last has the cipher text.
fn envelope(form: &str, members: usize) -> String {
    let mut text = String::new();
    for at in 1..members {
        let _ = if form == "xml" { write!(text, "<a{at}>1</a{at}>") } else { write!(text, "\"a{at}\":1,") };
    }
    match form {
        "xml" => format!("<xml>{text}<Encrypt>AAAA</Encrypt></xml>"),
        _ => format!("{{{text}\"Encrypt\":\"AAAA\"}}"),
    }
}

#[tokio::test]
async fn nobody_has_more_read_than_an_envelope_before_the_signature_is_checked() {
    let server = TestServer::start(Hooks::default()).await;
    let accounts = [
        ("/mp/shop", "plaintext"),
        ("/mp/compat", "plaintext"),
        ("/miniprogram/game", "plaintext"),
        ("/wecom/sales", "bad_envelope"),
        ("/wecom_suite/crm", "bad_envelope"),
        ("/wecom_kf/support", "bad_envelope"),
        ("/wecom_bot/helper", "bad_envelope"),
        ("/openplatform/agency", "bad_envelope"),
        ("/openplatform/agency/wx1", "bad_envelope"),
    ];
    for (path, refusal) in accounts {
        for form in ["xml", "json"] {
            let post = |body: String| {
                let signed = Signed { query: FORGED.to_owned(), body };
                let server = &server;
                async move { server.post(path, &signed).await.body }
            };
            assert_eq!(post(envelope(form, 90)).await, "wrong_signature", "{path} {form}");
            assert_eq!(post(envelope(form, 110)).await, refusal, "{path} {form}");
        }
        // What is no element takes time, too.
        for (piece, count) in
            [("&amp;", 110), ("<![CDATA[ ]]>", 110), ("<!---->", 110), ("<?a?>", 110), ("&#65;", 110), (">", 1_010)]
        {
            let body = format!("<xml><Encrypt>AAAA</Encrypt><a>{}</a></xml>", piece.repeat(count));
            let signed = Signed { query: FORGED.to_owned(), body };
            assert_eq!(server.post(path, &signed).await.body, refusal, "{path} {piece}");
        }
    }
}

#[tokio::test]
async fn an_envelope_of_the_platform_may_have_some_more_members() {
    let server = TestServer::start(Hooks::default().on(echo)).await;
    for (path, account, payload) in [
        ("/mp/shop", MP, text_message(1, "hi")),
        ("/mp/compat", COMPAT, text_message(1, "hi")),
        ("/miniprogram/game", MINI, text_message(1, "hi")),
        ("/wecom/sales", WECOM, text_message(1, "hi")),
        ("/wecom_kf/support", KF, text_message(1, "hi")),
        ("/openplatform/agency/wx1", OPEN, text_message(1, "hi")),
        ("/wecom_suite/crm", SUITE, text_message(1, "hi")),
        ("/wecom_bot/helper", BOT, r#"{"msgid":"1","msgtype":"text"}"#.to_owned()),
    ] {
        let signed =
            if path == "/wecom_bot/helper" { account.safe_bot(&payload, "n") } else { account.safe(&payload, "n") };
        let (start, rest) = signed.body.split_once(['>', '{']).unwrap();
        let more = if start.is_empty() {
            "{\"a\":1,\"b\":[1,2,3],".to_owned()
        } else {
            format!("{start}>{}", "<b>1</b>".repeat(20))
        };
        let body = format!("{more}{rest}");
        assert_eq!(server.post(path, &Signed { body, ..signed }).await.status, 200, "{path}");
    }
}

/// In compatible mode a body is read to see whether it is encrypted; not for somebody who has signed nothing.
#[tokio::test]
async fn compatible_mode_reads_no_body_for_a_wrong_signature() {
    let server = TestServer::start(Hooks::default().on(echo)).await;
    let query = "signature=0000000000000000000000000000000000000000&timestamp=1735689600&nonce=n";
    for body in ["<xml><Encrypt>AAAA</Encrypt></xml>", "<xml><a></xml>", "no document", "", &text_message(1, "hi")] {
        let signed = Signed { query: query.to_owned(), body: body.to_owned() };
        assert_eq!(server.post("/mp/compat", &signed).await.body, "wrong_signature", "{body}");
    }
    // With the right one an encrypted body is still none in clear text.
    let sealed = COMPAT.safe(&text_message(1, "hi"), "n");
    let signed = Signed { query: COMPAT.plain_query("1735689600", "n"), ..sealed };
    assert_eq!(server.post("/mp/compat", &signed).await.body, "missing_parameter");
}

async fn echo(message: mp::TextMessage, _: Context) -> Result<Reply, HandlerError> {
    Ok(Reply::text(message.content))
}

/// Nodes are counted; so is what takes as long to read.
#[tokio::test]
async fn the_parts_of_a_payload_are_counted_whatever_they_are() {
    let server = TestServer::start(Hooks::default().on(echo)).await;
    let xml = |inside: String| event("A", &format!("<More>{inside}</More>"));
    for (at, unit) in ["&amp;", "<![CDATA[]]>", "<!---->", "<?a?>", "&#65;"].into_iter().enumerate() {
        for (count, unreadable) in [(49_900, at), (50_100, at + 1)] {
            // The text behind them is why each section has an end.
            let signed = PLAIN.plain(&xml(format!("{}x", unit.repeat(count))), &format!("n{at}{count}"));
            let answer = server.post("/mp/plain", &signed).await;
            assert_eq!(answer.status, 200, "{count} of {unit}: {}", answer.body);
            let counted = server.metric(&unread("mp", "plain")).await;
            assert_eq!(counted, f64::from(u32::try_from(unreadable).unwrap()), "{count} of {unit}");
        }
    }
    let mut unreadable = 0.0;
    for (unit, count, is_read) in [
        ("0", 49_900, true),
        ("0", 50_100, false),
        ("0.5", 4_900, true),
        ("0.5", 5_100, false),
        ("2.4703282292062327208e-324", 4_900, true),
        ("2.4703282292062327208e-324", 5_100, false),
        ("1e300", 5_100, false),
        ("18446744073709551615", 49_900, true),
        ("18446744073709551616", 5_100, false),
    ] {
        let body = format!("{{\"a\":[{}1]}}", format!("{unit},").repeat(count));
        let answer = server.post("/im/open", &open("State.StateChange", &body)).await;
        assert_eq!(answer.status, 200, "{count} of {unit}: {}", answer.body);
        unreadable += if is_read { 0.0 } else { 1.0 };
        assert_eq!(server.metric(&unread("im", "open")).await, unreadable, "{count} of {unit}");
    }
}

/// The metric of deliveries that could not be parsed.
fn unread(platform: &str, account: &str) -> String {
    let labels = format!("platform=\"{platform}\",account=\"{account}\"");
    format!("echostr_deliveries_total{{{labels},outcome=\"acknowledged\",reason=\"unreadable\"}}")
}

/// A delivery to the IM account without a token.
fn open(command: &str, body: &str) -> Signed {
    let query = format!("SdkAppid=1400000002&CallbackCommand={command}&contenttype=json");
    Signed { query, body: body.to_owned() }
}

/// So many that each must not be compared with each, in the order of the request, each once; the last word counts.
#[tokio::test]
async fn many_friends_are_answered_as_few_are() {
    const FRIENDS: usize = 24_000;
    let hooks = Hooks::default().on(async |event: im::BeforeFriendAdd, _: Context| {
        let verdicts = BeforeFriendAddResp::for_event(&event).deny("u1", 38_001, "first")?;
        Ok(verdicts.deny("u23999", 38_002, "last")?.deny("u1", 38_003, "again")?.deny("nobody", 38_004, "added")?)
    });
    let server = TestServer::start(hooks).await;
    for friends in [3, 24, 25, 26, 5_000, FRIENDS] {
        let account = |at: usize| if at == friends - 1 { "u0".to_owned() } else { format!("u{at}") };
        let item = |at| format!("{{\"To_Account\":\"{}\"}}", account(at));
        let items: Vec<_> = (0..friends).map(item).collect();
        let body =
            format!("{{\"CallbackCommand\":\"Sns.CallbackPrevFriendAdd\",\"FriendItem\":[{}]}}", items.join(","));
        let answer = server.post("/im/open", &open("Sns.CallbackPrevFriendAdd", &body)).await.body;
        let verdict = |account: &str, code: u32, info: &str| {
            format!("{{\"To_Account\":\"{account}\",\"ResultCode\":{code},\"ResultInfo\":\"{info}\"}}")
        };
        let mut expected: Vec<_> = (0..friends - 1)
            .map(|at| match at {
                1 => verdict("u1", 38_003, "again"),
                at => verdict(&account(at), 0, ""),
            })
            .collect();
        // The last of the list is the first one again.
        expected.extend([verdict("u23999", 38_002, "last"), verdict("nobody", 38_004, "added")]);
        let expected = expected.join(",");
        assert!(answer.contains(&format!("\"ResultItem\":[{expected}]")), "{friends}: {}", &answer[..200]);
    }
    // Nobody decides: an item for each that is named, however often.
    let server = TestServer::start(Hooks::default()).await;
    let items = "{\"To_Account\":\"a\"},{\"To_Account\":7},{\"To_Account\":\"a\"}";
    let answer =
        server.post("/im/open", &open("Sns.CallbackPrevFriendAdd", &format!("{{\"FriendItem\":[{items}]}}"))).await;
    let accounts: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let accounts: Vec<_> =
        accounts["ResultItem"].as_array().unwrap().iter().map(|item| item["To_Account"].clone()).collect();
    assert_eq!(accounts, ["a", "7", "a"]);
}

/// An object with very many members reads as one with few does.
#[tokio::test]
async fn many_members_change_nothing_about_the_others() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let hooks = Hooks::default().on(move |event: im::BeforeFriendAdd, _: Context| {
        let answer = BeforeFriendAddResp::for_event(&event);
        let _ = tell.send(event);
        async { Ok(answer) }
    });
    let server = TestServer::start(hooks).await;
    let friend = |name: &str| format!("{{\"To_Account\":\"{name}\"}}");
    let mut events = Vec::new();
    for members in [0, 10, 24, 25, 40_000] {
        let mut more: Vec<_> = (0..members).map(|at| format!("\"EventTim{at:06}\":0")).collect();
        // A name that occurs twice is worth its first value; lists of one name are one list.
        more.insert(members / 2, "\"EventTime\":1791284400123".to_owned());
        more.insert(0, format!("\"FriendItem\":[{}]", friend("x")));
        more.push(format!("\"EventTime\":7,\"FriendItem\":[{},{}]", friend("y"), friend("z")));
        let body = format!("{{{}}}", more.join(","));
        let answer = server.post("/im/open", &open("Sns.CallbackPrevFriendAdd", &body)).await;
        assert_eq!(answer.status, 200, "{members}: {}", answer.body);
        events.push(told.recv().await.unwrap());
    }
    let first = &events[0];
    assert_eq!((first.event_time, first.friend_item.len()), (1_791_284_400_123, 3));
    assert!(events.iter().all(|event| event == first), "{events:?}");
}

/// The same field of very many items is one line of the log.
#[tokio::test]
async fn a_field_that_cannot_be_read_is_logged_once() {
    let (log, _guard) = Log::begin();
    let hooks =
        Hooks::default().on(async |event: im::BeforeFriendAdd, _: Context| Ok(BeforeFriendAddResp::for_event(&event)));
    let server = TestServer::start(hooks).await;
    let items: Vec<_> =
        (0..5_000).map(|at| format!("{{\"To_Account\":\"u{at}\",\"Remark\":[],\"GroupName\":[1]}}")).collect();
    let body = format!("{{\"FriendItem\":[{}]}}", items.join(","));
    let answer = server.post("/im/open", &open("Sns.CallbackPrevFriendAdd", &body)).await;
    assert!(answer.body.contains("\"To_Account\":\"u4999\""), "{}", &answer.body[..200]);
    let text = log.text();
    for field in ["Remark", "GroupName"] {
        assert_eq!(text.matches(&format!("`FriendItem.{field}` is not text")).count(), 1, "{field}");
    }
}

/// What no type describes is kept as it is, but not without a limit.
#[tokio::test]
async fn content_of_an_unknown_kind_has_a_limit() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let hooks = Hooks::default()
        .on(move |event: im::AfterPrivateMessageSend, _: Context| {
            let _ = tell.send(serde_json::to_string(&event.msg_body).unwrap());
            async { Ok(()) }
        })
        .on_any("*", async |_: RawEvent, _: Context| Ok(RawReply::none()));
    let server = TestServer::start(hooks).await;
    for (elements, members, is_read) in
        [(1, 0, true), (1, 9_990, true), (1, 10_010, false), (3, 3_300, true), (3, 3_400, false), (1, 40_000, false)]
    {
        let content: Vec<_> = (0..members).map(|at| format!("\"a{at}\":0")).collect();
        let element = format!("{{\"MsgType\":\"TIMNewElem\",\"MsgContent\":{{{}}}}}", content.join(","));
        let all = vec![element; elements].join(",");
        let members = elements * members;
        let body = format!("{{\"MsgKey\":\"{members}\",\"MsgBody\":[{all}]}}");
        let answer = server.post("/im/open", &open("C2C.CallbackAfterSendMsg", &body)).await;
        assert_eq!(answer.status, 200, "{members}");
        let read = told.recv().await.unwrap();
        assert_eq!(read.matches(":0").count() == members, is_read, "{members}");
    }
}

/// Text that holds a list, or a number, is no way around the limits.
#[tokio::test]
async fn lists_and_numbers_in_text_have_limits_too() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let tell_place = tell.clone();
    let hooks = Hooks::default()
        .on(move |event: wecom::ContactCreateUser, _: Context| {
            let _ = tell.send(event.department.map_or(0, |all| all.len()).to_string());
            async { Ok(()) }
        })
        .on(move |event: mp::LocationReport, _: Context| {
            let _ = tell_place.send(event.latitude.map_or_else(|| "none".to_owned(), |degrees| degrees.to_string()));
            async { Ok(Reply::none()) }
        })
        .on_any("*", async |_: RawEvent, _: Context| Ok(RawReply::none()));
    let server = TestServer::start(hooks).await;
    for (departments, read) in [(3, "3"), (50_000, "50000"), (50_001, "0"), (300_000, "0")] {
        let list = "1,".repeat(departments);
        let more = format!("<ChangeType>create_user</ChangeType><UserID>a</UserID><Department>{list}</Department>");
        let answer = server.post("/wecom/sales", &WECOM.safe(&event("change_contact", &more), "n")).await;
        assert_eq!(answer.status, 200, "{departments}");
        assert_eq!(told.recv().await.unwrap(), read, "{departments}");
    }
    for (latitude, read) in [
        ("23.134521", "23.134521"),
        (" 23.134521000000000000000000000000000000 ", "23.134521"),
        ("-2.2250738585072014e-308", "-0.000000"),
        ("2.4703282292062327208e-324", "none"),
        (&format!("23.{}", "1".repeat(70)), "none"),
    ] {
        let more = format!("<Latitude>{latitude}</Latitude><Longitude>1</Longitude><Precision>1</Precision>");
        let answer = server.post("/mp/shop", &MP.safe(&event("LOCATION", &more), "n")).await;
        assert_eq!(answer.status, 200, "{latitude}");
        assert!(told.recv().await.unwrap().starts_with(read), "{latitude}");
    }
}
