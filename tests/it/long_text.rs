//! Texts that are longer than a platform takes.

use echostr::{
    events::{miniprogram, mp, wecom, wecom_kf},
    hooks::{Context, Hooks},
    replies,
    simulate::api::{FakeApi, Faults, Sent},
};
use tempfile::TempDir;

use crate::support::{
    Log, TestServer,
    api::{accounts, announce, sent},
    postgres::database,
    server::{MINI, MP, PLAIN, WECOM, text_message},
    wait_for,
};

/// A text of 9 000 bytes, with a number for each of its characters.
fn long() -> String {
    let text: String = (0..3_000_u32).map(|at| char::from_u32(0x4E00 + at).unwrap()).collect();
    assert_eq!(text.len(), 9_000);
    text
}

fn hooks() -> Hooks {
    Hooks::default()
        .on(async |_: mp::TextMessage, _: Context| Ok(replies::mp::Reply::text(long())))
        .on(async |_: miniprogram::TextMessage, _: Context| Ok(replies::mp::Reply::text(long())))
        .on(async |_: wecom::TextMessage, _: Context| Ok(replies::wecom::Reply::text(long())))
        .on(async |_: wecom_kf::TextMessage, _: Context| Ok(replies::wecom_kf::Reply::text(long())))
        .on(async |_: wecom_kf::EnterSession, _: Context| Ok(replies::wecom_kf::EventReply::text(long())))
}

/// The accounts of the fake API, each with this line more.
fn with(api: &FakeApi, line: &str) -> String {
    let accounts = accounts(api, "");
    accounts.replace("secret = ", &format!("{line}\nsecret = ")).replace("deadline = \"50ms\"\n", "")
}

fn texts(sent: &[Sent]) -> Vec<String> {
    sent.iter().map(|one| one.body["text"]["content"].as_str().unwrap().to_owned()).collect()
}

async fn tell(server: &TestServer, id: u64) -> [String; 2] {
    let mp = server.post("/mp/soon", &PLAIN.plain(&text_message(id, "hi"), &format!("a{id}"))).await;
    let message = text_message(id, "hi").replace("</xml>", "<AgentID>1000002</AgentID></xml>");
    let wecom = server.post("/wecom/sales", &WECOM.safe(&message, &format!("b{id}"))).await;
    assert_eq!((mp.status, wecom.status), (200, 200));
    let opened = if wecom.body.is_empty() { String::new() } else { WECOM.open_reply(&wecom.body) };
    [mp.body, opened]
}

#[tokio::test]
async fn a_long_reply_is_cut_at_a_character_unless_the_account_wants_something_else() {
    let api = FakeApi::start(1).await.unwrap();
    let (log, _guard) = Log::begin();
    for line in ["", "long_text = \"cut\""] {
        let server = TestServer::start_with("", &with(&api, line), hooks()).await;
        let expected = long().chars().take(682).collect::<String>();
        for reply in tell(&server, 1).await {
            assert!(reply.contains(&format!("<Content><![CDATA[{expected}]]></Content>")), "{reply}");
        }
        // A repeat gets the same.
        assert!(tell(&server, 1).await[0].contains(&expected));
    }
    assert_eq!(log.text().matches("cut a text of 9000 bytes to 2048").count(), 4, "{}", log.text());
    let server = TestServer::start_with("", &with(&api, "long_text = \"error\""), hooks()).await;
    assert_eq!(tell(&server, 1).await, ["success", ""]);
    let counted = |platform, account| {
        format!(
            "echostr_deliveries_total{{platform=\"{platform}\",account=\"{account}\",outcome=\"defaulted\",reason=\"bad_reply\"}}"
        )
    };
    assert_eq!(server.metric(&counted("mp", "soon")).await, 1.0);
    assert_eq!(server.metric(&counted("wecom", "sales")).await, 1.0);
    assert!(log.text().contains("the text has 9000 bytes, at most 2048 fit"));
    assert!(api.sent().is_empty());
}

#[tokio::test]
async fn a_long_reply_is_sent_in_parts_in_order_and_once() {
    let api = FakeApi::start(2).await.unwrap();
    let server = TestServer::start_with("", &with(&api, "long_text = \"split\""), hooks()).await;
    assert_eq!(server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "a")).await.body, "success");
    let parts = texts(&sent(&api, 5).await);
    assert!(parts.iter().all(|part| part.len() <= 2048));
    assert_eq!(parts.concat(), long());
    // A repeat sends nothing; an application has parts of its own.
    assert_eq!(server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "b")).await.body, "success");
    let message = text_message(2, "hi").replace("</xml>", "<AgentID>1000002</AgentID></xml>");
    assert_eq!(server.post("/wecom/sales", &WECOM.safe(&message, "c")).await.body, "");
    let all = sent(&api, 10).await;
    assert_eq!(texts(&all[5..]).concat(), long());
    assert!(all[5..].iter().all(|one| one.path == "/cgi-bin/message/send" && one.body["agentid"] == 1_000_002));
    wait_for("both are done", async || server.metric("echostr_observations_total{result=\"done\"}").await == 2.0).await;
    assert_eq!(api.sent().len(), 10);
}

/// Without a secret there is nothing to send with.
#[tokio::test]
async fn a_long_reply_is_cut_where_it_cannot_be_split() {
    let account = "[mp.soon]\napp_id = \"wx1\"\ntoken = \"plainToken\"\nmode = \"plain\"\nlong_text = \"split\"\n";
    let server = TestServer::start_with("", account, hooks()).await;
    let answer = server.post("/mp/soon", &PLAIN.plain(&text_message(1, "hi"), "a")).await;
    assert!(answer.body.contains(&long().chars().take(682).collect::<String>()), "{}", answer.body);
}

/// Users of Mini Programs are sent the parts as well; what the response says they do not see.
#[tokio::test]
async fn a_long_reply_of_a_mini_program_is_sent_in_parts_or_cut() {
    let api = FakeApi::start(6).await.unwrap();
    let server = TestServer::start_with("", &with(&api, "long_text = \"split\""), hooks()).await;
    assert_eq!(server.post("/miniprogram/game", &MINI.safe(&text_message(1, "hi"), "a")).await.body, "success");
    let parts = sent(&api, 5).await;
    assert_eq!(texts(&parts).concat(), long());
    assert!(parts.iter().all(|one| one.path == "/cgi-bin/message/custom/send" && one.to == "user_openid"));
    let server = TestServer::start_with("", &with(&api, ""), hooks()).await;
    let answer = server.post("/miniprogram/game", &MINI.safe(&text_message(2, "hi"), "b")).await;
    let opened = MINI.open_reply(&answer.body);
    assert!(opened.contains(&format!("[{}]", long().chars().take(682).collect::<String>())), "{opened}");
    assert_eq!(api.sent().len(), 5);
}

/// The accounts, retried without end.
fn patient(api: &FakeApi) -> String {
    with(api, "long_text = \"split\"").replace("[observers]", "[observers]\nmax_attempts = 1000")
}

/// The connection breaks behind each part: each may have been sent, so none is sent again, and all were.
#[tokio::test]
async fn a_part_that_may_have_been_sent_is_not_sent_again_and_those_behind_it_are() {
    let folder = TempDir::new().unwrap();
    let sqlite = format!("sqlite://{}", folder.path().join("journal.db").display());
    for url in ["memory:".to_owned(), sqlite].into_iter().chain(database().await) {
        let (api, (log, _guard)) = (FakeApi::start(7).await.unwrap(), Log::begin());
        let server = TestServer::start_on(&url, "", &patient(&api), hooks()).await;
        // The token is had first, so that the fault meets the parts.
        assert_eq!(server.post("/mp/shop", &MP.safe(&text_message(9, "hi"), "z")).await.body, "success");
        sent(&api, 5).await;
        wait_for("it is done", async || server.metric("echostr_observations_waiting").await == 0.0).await;
        api.set_faults(Faults { cut: 1.0, ..Faults::default() });
        assert_eq!(server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "a")).await.body, "success");
        wait_for("it ends", async || server.metric("echostr_observations_total{result=\"dead\"}").await == 1.0).await;
        assert_eq!(texts(&api.sent()[5..]).concat(), long(), "{url}");
        let lines = log.text();
        assert!(lines.contains("part 5 of 5 of a reply may have been sent, so it is not sent again"), "{lines}");
        assert!(
            lines.contains("it may have been sent, so it is not sent again: the part 1, 2, 3, 4, 5 of 5"),
            "{lines}"
        );
    }
}

/// Killed while the first part was on its way: the next process sends those behind it.
#[tokio::test]
async fn the_parts_behind_a_crash_are_sent() {
    let (before, after) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let url = |folder: &TempDir| format!("sqlite://{}", folder.path().join("journal.db").display());
    let stuck = FakeApi::start(8).await.unwrap();
    let killed = TestServer::start_on(&url(&before), "", &patient(&stuck), hooks()).await;
    assert_eq!(killed.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "a")).await.body, "success");
    // The platform takes two, and then says nothing.
    sent(&stuck, 2).await;
    stuck.set_faults(Faults { silent: 1.0, ..Faults::default() });
    let value = |folder: &TempDir| {
        let db = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
        db.query_row("SELECT value FROM slot WHERE name LIKE 'late/%'", [], |row| row.get::<_, String>(0))
    };
    let mut seen = stuck.sent().len();
    wait_for("a part is on its way", async || {
        let now = stuck.sent().len();
        let is_still =
            std::mem::replace(&mut seen, now) == now && value(&before).is_ok_and(|it| it == format!("begun {now}"));
        is_still || now == 5
    })
    .await;
    // The files as they are now are what the next process finds.
    for file in ["journal.db", "journal.db-wal"] {
        std::fs::copy(before.path().join(file), after.path().join(file)).unwrap();
    }
    let begun: usize = value(&after).unwrap().strip_prefix("begun ").unwrap().parse().unwrap();
    let api = FakeApi::start(9).await.unwrap();
    let server = TestServer::start_on(&url(&after), "", &patient(&api), Hooks::default()).await;
    wait_for("it ends", async || server.metric("echostr_observations_total{result=\"dead\"}").await == 1.0).await;
    let (first, rest) = (texts(&stuck.sent()), texts(&api.sent()));
    assert_eq!((first.len(), rest.len()), (begun, 4 - begun), "the one that was on its way is not sent again");
    assert!(long().starts_with(&first.concat()) && long().ends_with(&rest.concat()));
}

/// Parts that were sent are not sent again, whoever goes on: the next process, or another node.
#[tokio::test]
async fn parts_go_on_after_a_restart_and_on_another_node() {
    let folder = TempDir::new().unwrap();
    let sqlite = format!("sqlite://{}", folder.path().join("journal.db").display());
    for url in [Some(sqlite), database().await].into_iter().flatten() {
        let api = FakeApi::start(3).await.unwrap();
        // Each call may be turned away; none is lost on its way.
        api.set_faults(Faults { busy: 0.5, limited: 0.2, ..Faults::default() });
        let accounts = with(&api, "long_text = \"split\"").replace("[observers]", "[observers]\nmax_attempts = 1000");
        let server = TestServer::start_on(&url, "", &accounts, hooks()).await;
        assert_eq!(server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "a")).await.body, "success");
        sent(&api, 2).await;
        server.stop().await.unwrap();
        let server = TestServer::start_on(&url, "", &accounts, Hooks::default()).await;
        assert_eq!(texts(&sent(&api, 5).await).concat(), long(), "{url}");
        wait_for("it is done", async || server.metric("echostr_observations_waiting").await == 0.0).await;
        assert_eq!(api.sent().len(), 5);
    }
}

#[tokio::test]
async fn messages_of_customer_service_are_split_cut_or_an_error() {
    for (line, lengths) in [("", vec![2046, 2046, 2046, 2046, 816]), ("long_text = \"cut\"", vec![2046])] {
        let api = FakeApi::start(4).await.unwrap();
        let server = TestServer::start_with("", &with(&api, line), hooks()).await;
        api.customer_writes("wkDesk1", "wmAnn", "hello");
        announce(&server, &api, "wkDesk1", "a").await;
        let parts = texts(&sent(&api, lengths.len()).await);
        assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), lengths);
        assert!(long().starts_with(&parts.concat()));
        let ids: std::collections::HashSet<_> = api.sent().iter().map(|one| one.body["msgid"].to_string()).collect();
        assert_eq!(ids.len(), lengths.len());
        // An event has one code, which is for one message.
        api.customer_enters("wkDesk1", "wmBob");
        announce(&server, &api, "wkDesk1", "b").await;
        let all = sent(&api, lengths.len() + 1).await;
        assert_eq!(texts(&all).last().unwrap().len(), 2046);
    }
    let api = FakeApi::start(5).await.unwrap();
    let accounts = with(&api, "long_text = \"error\"").replace("[observers]", "[observers]\nmax_attempts = 1");
    let server = TestServer::start_with("", &accounts, hooks()).await;
    api.customer_writes("wkDesk1", "wmAnn", "hello");
    announce(&server, &api, "wkDesk1", "a").await;
    wait_for("it fails", async || server.metric("echostr_observations_total{result=\"dead\"}").await == 1.0).await;
    assert!(api.sent().is_empty());
}
