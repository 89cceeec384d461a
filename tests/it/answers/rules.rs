//! Rules: what is answered without asking anybody.

use echostr::{
    config::Config,
    events::mp,
    hooks::{Context, Hooks, RawEvent},
    replies::{RawReply, mp::Reply},
};

use super::{content, group, plain};
use crate::support::{
    TestServer,
    server::{ACCOUNTS, PLAIN, event, text_message},
};

async fn start(answers: &str, hooks: Hooks) -> TestServer {
    TestServer::start_with("", &format!("{ACCOUNTS}{answers}"), hooks).await
}

#[tokio::test]
async fn the_first_rule_that_applies_answers() {
    let server = start(
        r#"
[[answer]]
name = "desk"
match = "mp/plain:mp.message.*"
rules = [
    { keyword = ["Price", "价格"], text = "prices" },
    { exact = ["hi", "您好"], text = "hello" },
    { pattern = '^order (\d+)$', text = "an order" },
    { keyword = "say", pattern = "please", echo = true },
    { where = { MsgType = "image" }, text = "a picture" },
]
text = "otherwise"

[[answer]]
name = "menu"
match = "mp/plain:mp.event.*"
rules = [
    { key = "HOURS", news = [{ title = "Hours", url = "https://shop.example/hours" }] },
    { scene = "12", text = "from the window" },
]
"#,
        Hooks::default(),
    )
    .await;
    for (id, (text, expected)) in (1..).zip([
        ("what is the PRICE?", "prices"),
        ("价格多少", "prices"),
        ("Hi ", "hello"),
        ("hi there", "otherwise"),
        ("您好", "hello"),
        ("order 42", "an order"),
        ("Order 42", "otherwise"),
        ("please say <b> & ]]", "please say <b> & ]]"),
        ("say it", "otherwise"),
    ]) {
        assert_eq!(content(&plain(&server, id, text).await), expected, "{text}");
    }
    let image = text_message(20, "x").replace("<MsgType><![CDATA[text]]>", "<MsgType><![CDATA[image]]>");
    assert_eq!(content(&server.post("/mp/plain", &PLAIN.plain(&image, "image")).await), "a picture");
    let key = |key: &str| format!("<EventKey><![CDATA[{key}]]></EventKey>");
    let click = server.post("/mp/plain", &PLAIN.plain(&event("CLICK", &key("HOURS")), "c1")).await;
    assert!(click.body.contains("<Title><![CDATA[Hours]]></Title>"), "{}", click.body);
    for (nonce, (name, key_of, expected)) in [
        ("CLICK", "OTHER", "success"),
        ("subscribe", "qrscene_12", "from the window"),
        ("SCAN", "12", "from the window"),
        ("SCAN", "13", "success"),
        ("CLICK", "12", "success"),
    ]
    .into_iter()
    .enumerate()
    {
        let signed = PLAIN.plain(&event(name, &key(key_of)), &format!("e{nonce}"));
        assert_eq!(content(&server.post("/mp/plain", &signed).await), expected, "{name} {key_of}");
    }
}

#[tokio::test]
async fn the_more_exact_one_answers_and_code_comes_before_patterns() {
    let answers = r#"
[[answer]]
name = "all"
match = "mp/*"
text = "all"
[[answer]]
name = "messages"
match = "mp/plain:mp.message.*"
where = { MsgType = "text" }
text = "messages"
[[answer]]
name = "gate"
match = "im/chat:im.command.group.*"
deny = 10101
info = "no"
"#;
    let anything = Hooks::default().on_any("*", async |_: RawEvent, _: Context| Ok(RawReply::none()));
    let server = start(answers, anything).await;
    assert_eq!(content(&plain(&server, 1, "hi").await), "messages");
    let image = text_message(2, "x").replace("<MsgType><![CDATA[text]]>", "<MsgType><![CDATA[image]]>");
    let answer = server.post("/mp/plain", &PLAIN.plain(&image, "n2")).await;
    assert_eq!(answer.body, "success", "`where` does not hold");
    let click = PLAIN.plain(&event("CLICK", "<EventKey>k</EventKey>"), "n3");
    assert_eq!(content(&server.post("/mp/plain", &click).await), "all");
    assert_eq!(group(&server).await["ErrorCode"], 10101);
}

#[test]
fn a_wrong_answer_is_a_problem_with_its_line() {
    let problems = |answer: &str| {
        let text = format!("{ACCOUNTS}[[answer]]\nname = \"one\"\n{answer}\n");
        Config::parse(&text, "test", |name| std::env::var(name)).map(drop).map_err(|problems| problems.to_string())
    };
    let text = "match = \"mp/plain:mp.message.text\"\n";
    for (answer, named) in [
        (String::new(), "missing `match`"),
        (text.to_owned(), "says nothing"),
        (format!("{text}txet = \"hi\""), "`txet`"),
        (format!("{text}text = \"\""), "empty"),
        (format!("{text}text = \"hi\"\nnews = []"), "one thing"),
        (format!("{text}text = \"hi\"\nto = \"http://127.0.0.1:1/\""), "`to` cannot stand beside"),
        (format!("{text}text = \"hi\"\ntimeout = \"5s\""), "needs `to`"),
        (format!("{text}to = \"ftp://127.0.0.1/\""), "must be a URL"),
        (format!("{text}to = \"http://169.254.169.254/\""), "metadata"),
        (format!("{text}to = \"http://127.0.0.1:1/\"\nsecret = \"abc\""), "whsec_"),
        (format!("{text}to = \"http://127.0.0.1:1/\"\nreply_within = \"2h\""), "reply_within"),
        (format!("{text}to = \"http://127.0.0.1:1/\"\ntoken = \"t\""), "format = \"original\""),
        (format!("{text}rules = [{{ text = \"hi\" }}]"), "tests nothing"),
        (format!("{text}rules = [{{ keyword = \"hi\" }}]"), "no reply"),
        (format!("{text}rules = [{{ keyword = \"\", text = \"hi\" }}]"), "`keyword`"),
        (format!("{text}rules = [{{ pattern = \"(\", text = \"hi\" }}]"), "regular expression"),
        (format!("{text}rules = [{{ pattern = 'a{{1000000}}', text = \"hi\" }}]"), "regular expression"),
        (format!("{text}rules = [{{ keyword = \"a\", txet = \"hi\" }}]"), "`txet`"),
        (format!("{text}rules = \"hi\""), "list of rules"),
        (format!("{text}rules = [1]"), "list of rules"),
        (format!("{text}echo = true\ntext = \"hi\""), "`echo`"),
        ("match = \"mp/nope\"\ntext = \"hi\"".to_owned(), "no configured account"),
        ("match = \"mp/plain:mp.event.unsubscribe\"\ntext = \"hi\"".to_owned(), "takes a reply"),
        ("match = \"im/chat:im.command.group.*\"\nnews = []".to_owned(), "is no reply to im.command.group"),
        ("match = \"im/chat:im.command.group.*\"\ndeny = 5".to_owned(), "10100"),
        ("match = \"mp/plain\"\nallow = true".to_owned(), "is no reply to mp."),
    ] {
        let problem = problems(&answer).unwrap_err();
        assert!(problem.contains(named), "{answer}: {problem}");
        assert!(problem.starts_with("test:"), "{answer}: {problem}");
    }
    for answer in [
        format!("{text}text = \"hi\""),
        format!("{text}echo = true"),
        format!("{text}to = \"http://127.0.0.1:1/\""),
        "match = [\"mp/*\", \"wecom/*\"]\ntext = \"hi\"".to_owned(),
        "match = \"im/chat:im.command.sns.prev_friend_add\"\ndeny = 38001".to_owned(),
    ] {
        assert_eq!(problems(&answer), Ok(()), "{answer}");
    }
    let twice = format!("{text}text = \"hi\"\n[[answer]]\nname = \"one\"\n{text}text = \"hi\"");
    assert!(problems(&twice).unwrap_err().contains("one"));
}

#[tokio::test]
async fn the_demo_gives_way() {
    let handlers = "[handlers.demo]\nwelcome = \"demo\"\n[[answer]]\nname = \"one\"\nmatch = \"mp/plain:mp.message.text\"\ntext = \"mine\"\n";
    let text = format!("{ACCOUNTS}{handlers}");
    let config = Config::parse(&text, "test", |name| std::env::var(name)).unwrap();
    let demo = || echostr::demo::hooks(&config).unwrap().unwrap();
    let own = Hooks::default().on(async |_: mp::TextMessage, _: Context| Ok(Reply::text("rust")));
    let server = TestServer::start_with("", ACCOUNTS, own.with_defaults(demo())).await;
    assert_eq!(content(&plain(&server, 1, "hi").await), "rust");
    let server = TestServer::start_with("", &text, Hooks::default().with_defaults(demo())).await;
    assert_eq!(content(&plain(&server, 1, "hi").await), "mine");
    let follow = PLAIN.plain(&event("subscribe", ""), "s");
    assert_eq!(content(&server.post("/mp/plain", &follow).await), "demo");
}
