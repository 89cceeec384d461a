//! A name that matches nothing is refused with the nearest; an event is found by the beginning of its id.

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
};
use tempfile::TempDir;

use super::{run, write};
use crate::support::{
    TestServer,
    server::{ACCOUNTS, IM, MP, text_message},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_matches_nothing_is_refused_with_the_nearest() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    write(folder.path(), &format!("[journal]\nurl = \"{url}\"\n{ACCOUNTS}"));
    let server = TestServer::start_on(&url, "", ACCOUNTS, Hooks::default()).await;
    assert_eq!(server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "1")).await.status, 200);
    assert_eq!(
        server.post("/mp/shop", &MP.safe(&text_message(2, "hi").replace("[text]", "[hologram]"), "2")).await.status,
        200
    );
    let admin = format!("http://{}", server.admin.0);
    let remote = ["--url", &admin];
    for (arguments, code, part) in [
        (&["events", "ls", "--account", "mp/nope"][..], 1, "unknown account `mp/nope`; "),
        (&["events", "ls", "--account", "mp/shpo"], 1, "did you mean `mp/shop`?"),
        (&["events", "ls", "--account", "shop"], 1, "did you mean `mp/shop`?"),
        (&["events", "ls", "--type", "nosuch"], 1, "unknown event type `nosuch`"),
        (&["events", "ls", "--type", "mp.mesage.text"], 1, "did you mean `mp.message.text`?"),
        (&["events", "ls", "--type", "mp.evnt.*"], 1, "did you mean `mp.event."),
        (&["events", "ls", "--type", "mp.*.text"], 1, "one `*`, at its end"),
        (&["events", "ls", "--type", "subscribe"], 1, "did you mean `mp.event.subscribe`?"),
        (&["events", "ls", "--account", "im/chat", "--type", "mp.message.text"], 1, "accounts of im have no events"),
        (&["events", "ls", "--platform", "im", "--account", "mp/shop"], 1, "mp/shop is not an account of im"),
        (&["events", "tail", "--type", "nosuch"], 1, "unknown event type"),
        (&["events", "replay", "--type", "nosuch", "--all-observers"], 1, "unknown event type"),
        (&["dead", "ls", "--type", "nosuch"], 1, "unknown event type"),
        (&["dead", "replay", "--account", "mp/nope"], 1, "unknown account"),
        (&["dead", "drop", "--account", "mp/nope"], 1, "unknown account"),
        // What is there, or may be.
        (&["events", "ls", "--type", "mp.message.text"], 0, "mp/shop"),
        (&["events", "ls", "--type", "mp.message.unknown"], 0, "mp/shop"),
        (&["events", "ls", "--type", "mp.*"], 0, "mp/shop"),
        (&["events", "ls", "--type", "wecom.event.unknown"], 0, "no event"),
        (&["events", "ls", "--account", "wecom/sales"], 0, "no event\n"),
        (&["events", "ls", "--account", "im/chat"], 0, "stored only if an observer wants them"),
        (&["events", "ls", "--type", "im.*"], 0, "stored only if an observer wants them"),
    ] {
        for source in [&[][..], &remote] {
            run(folder.path(), &[arguments, source].concat()).await.with(code, &[part]);
        }
    }
    for (pattern, part) in [
        ("mp/shpo", "did you mean `mp/shop`?"),
        ("mp/shop:mp.mesage.text", "did you mean `mp.message.text`?"),
        ("mp/shop:im.*", "accounts of mp have no events"),
        ("*:nosuch", "unknown event type"),
    ] {
        run(folder.path(), &["listen", "http://localhost:3000", "--match", pattern, "--url", &admin])
            .await
            .with(1, &[part]);
    }
    for (arguments, code, part) in [
        (&["simulate", "mp/shpo", "text"][..], 1, "did you mean `mp/shop`?"),
        (&["simulate", "mp/shop", "subscibe"], 1, "did you mean `mp.event.subscribe`?"),
        (&["simulate", "mp/shop", "text", "--set", "Contnet=x"], 1, "no field `Contnet`; did you mean Content?"),
        (
            &["simulate", "im/chat", "C2C.CallbackBeforeSendMsg", "--set", "MsgBody[0].MsgContent.Text=x"],
            1,
            "no field `MsgBody[0]`; lists need no index: MsgBody.MsgContent.Text",
        ),
        (&["simulate", "mp/shop", "text", "--json"], 2, "--form json to send JSON, or --output json to print it"),
        (&["explain", "mp/shpo", "--url", "x"], 1, "did you mean `mp/shop`?"),
        (&["catalog", "--json-schema", "mp.mesage.text"], 1, "did you mean `mp.message.text`?"),
    ] {
        run(folder.path(), arguments).await.with(code, &[part]);
    }
    assert!(server.stop().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_by_the_beginning_of_its_id() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    write(folder.path(), &format!("[journal]\nurl = \"{url}\"\n{ACCOUNTS}"));
    let hooks = Hooks::default().observe("fails", async |_: mp::TextMessage, _: Context| Err("no luck".into()));
    let settings = format!("{ACCOUNTS}\n[observers]\nmax_attempts = 1\n");
    let server = TestServer::start_on(&url, "", &settings, hooks).await;
    for id in 1..=3 {
        assert_eq!(server.post("/mp/shop", &MP.safe(&text_message(id, "hi"), &id.to_string())).await.status, 200);
    }
    // A question that nobody observes is answered, and not stored.
    let asked = r#"{"CallbackCommand":"Sns.CallbackPrevFriendAdd","Requester_Account":"id"}"#;
    assert_eq!(server.post("/im/chat", &IM.command("Sns.CallbackPrevFriendAdd", asked)).await.status, 200);
    until(async || run(folder.path(), &["dead", "ls", "--json"]).await.out.lines().count() == 3).await;
    let listed = run(folder.path(), &["events", "ls", "--json"]).await;
    let ids: Vec<String> = listed
        .out
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 3);
    let table = run(folder.path(), &["events", "ls"]).await;
    let shown: Vec<&str> = table.out.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    let admin = format!("http://{}", server.admin.0);
    for source in [&[][..], &["--url", &admin]] {
        for (id, short) in ids.iter().zip(&shown) {
            for written in [id, *short, &short.to_uppercase(), &format!("{short}…"), &id.replace('-', "")] {
                let said = run(folder.path(), &[&["events", "show", written], source].concat()).await;
                said.with(0, &[id.as_str(), "failed once, dead letter since", "no luck"]);
            }
        }
        let common = &ids[0][..6];
        let said = run(folder.path(), &[&["events", "show", common], source].concat()).await;
        said.with(1, &["is the beginning of several ids", &ids[0], &ids[1], &ids[2], "mp/shop mp.message.text"]);
        for nothing in ["00000000-0000", "ffffffff", "019ad1f2-7c3e-7001-8000-000000000000"] {
            let said = run(folder.path(), &[&["events", "show", nothing], source].concat()).await;
            said.with(1, &["no event", "stored only if an observer wants them"]);
        }
        run(folder.path(), &[&["events", "show", "01"], source].concat()).await.with(2, &["4 characters or more"]);
    }
    let replayed = run(folder.path(), &["events", "replay", shown[0], "--observer", "fails"]).await;
    replayed.with(0, &["queued "]);
    run(folder.path(), &["dead", "drop", &format!("{}/fails", shown[1])]).await.with(0, &["removed 1 dead letter"]);
    run(folder.path(), &["dead", "replay", &ids[0][..6]]).await.with(1, &["is the beginning of several ids"]);
    run(folder.path(), &["dead", "replay", shown[2], "--url", &admin]).await.with(0, &["queued 1 dead letter again"]);
    assert!(server.stop().await.unwrap());
}
