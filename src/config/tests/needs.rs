//! Only the secrets that somebody needs are read.

use super::*;

const TEXT: &str = "[journal]\nurl = { env = \"JOURNAL_URL\" }\n[admin]\ntoken = { env = \"ADMIN_TOKEN\" }\n\
    [mp.shop]\napp_id = \"wx1\"\nmode = \"plain\"\ntoken = { env = \"SHOP_TOKEN\" }\n\
    [im.chat]\nsdk_app_id = 1\ntoken = { env = \"CHAT_TOKEN\" }\n\
    [wecom_bot.helper]\nmode = \"websocket\"\nbot_id = \"aib1\"\nsecret = { env = \"BOT_SECRET\" }\n\
    [[forward]]\nname = \"crm\"\nmatch = \"mp/shop\"\nto = \"https://crm.example.com/in\"\nsecret = { env = \"CRM_KEY\" }\n\
    [[answer]]\nname = \"ask\"\nmatch = \"im/chat\"\nto = { env = \"ASK_URL\" }\n";

fn read(needs: Needs<'_>, known: &[&str]) -> Result<Config, String> {
    let env = |name: &str| match known.contains(&name) {
        true if name == "JOURNAL_URL" => Ok("memory:".to_owned()),
        true if name == "CRM_KEY" => Ok("whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY=".to_owned()),
        true => Ok("abcToken".to_owned()),
        false => Err(VarError::NotPresent),
    };
    Config::parse_for(TEXT, "c.toml", env, needs).map_err(|problem| problem.to_string())
}

fn ids(config: &Config) -> Vec<String> {
    config.accounts.iter().map(Account::id).collect()
}

#[test]
fn whoever_needs_no_secret_reads_none() {
    let config = read(Needs::NONE, &[]).unwrap();
    assert!(config.accounts.is_empty() && config.forwards.is_empty() && config.answers.is_empty());
    assert!(config.admin.token.is_none());
    assert_eq!(config.journal.url, JournalUrl::Unread);
    let known: Vec<_> = config.known_accounts().map(Account::id).collect();
    assert_eq!(known, ["mp/shop", "wecom_bot/helper", "im/chat"]);
    assert_eq!((&*config.unread_forwards[0].name, config.unread_forwards[0].enabled), ("crm", true));
    // Also not one that could be read.
    let all = ["JOURNAL_URL", "ADMIN_TOKEN", "SHOP_TOKEN", "CHAT_TOKEN", "BOT_SECRET", "CRM_KEY", "ASK_URL"];
    assert!(read(Needs::NONE, &all).unwrap().accounts.is_empty());
    // What can be read without the one that is missing is shown.
    let config = read(Needs::NONE.with_forwards(), &[]).unwrap();
    let unread = &config.unread_forwards[0];
    assert_eq!(unread.to.as_deref(), Some("https://crm.example.com/in"));
    assert_eq!(unread.why, "`secret` cannot be read: environment variable `CRM_KEY` is not set");
}

#[test]
fn what_is_needed_is_read_and_missed_with_its_line() {
    assert_eq!(read(Needs::JOURNAL, &["JOURNAL_URL"]).unwrap().journal.url, JournalUrl::Memory);
    let missing = "cannot be read: environment variable";
    assert_eq!(
        read(Needs::JOURNAL, &[]).unwrap_err(),
        format!("c.toml:2: [journal] `url` {missing} `JOURNAL_URL` is not set")
    );
    let shop = Needs::NONE.with_account("mp/shop");
    assert_eq!(ids(&read(shop, &["SHOP_TOKEN", "CHAT_TOKEN"]).unwrap()), ["mp/shop"]);
    assert_eq!(read(shop, &[]).unwrap_err(), format!("c.toml:8: [mp.shop] `token` {missing} `SHOP_TOKEN` is not set"));
    let shop = shop.with_accounts();
    let config = read(shop, &["SHOP_TOKEN", "CHAT_TOKEN"]).unwrap();
    assert_eq!(ids(&config), ["mp/shop", "im/chat"], "and not one without its secret, as if it had none");
    assert_eq!(config.unread_accounts[0].why, format!("`secret` {missing} `BOT_SECRET` is not set"));
    let crm = Needs::NONE.with_forward("crm");
    assert_eq!(read(crm, &["CRM_KEY"]).unwrap().forwards[0].name, "crm");
    assert!(read(crm, &[]).unwrap_err().starts_with("c.toml:20: [[forward]] `secret` cannot be read"));
    assert!(read(Needs::NONE.with_admin(), &["ADMIN_TOKEN"]).unwrap().admin.token.is_some());
    assert!(read(Needs::ALL, &[]).unwrap_err().lines().count() == 7);
}

#[test]
fn keys_of_queues_are_no_mistake_where_the_address_was_not_read() {
    let text = format!(
        "{}[[forward]]\nname = \"one\"\nmatch = \"*\"\nto = {{ env = \"NOT_SET\" }}\nsubject = \"all\"\nusername = \"u\"\npassword = \"p\"\n",
        "[mp.shop]\napp_id = \"wx0123456789abcdef\"\ntoken = \"shopToken\"\nmode = \"plain\"\n"
    );
    let read = |needs| Config::parse_for(&text, "test", |_| Err(std::env::VarError::NotPresent), needs);
    assert!(read(Needs::NONE).is_ok_and(|config| config.forwards.is_empty() && config.unread_forwards.len() == 1));
    let problems = read(Needs::ALL).map(drop).map_err(|wrong| wrong.to_string());
    assert!(
        problems.as_ref().is_err_and(|text| text.contains("NOT_SET") && !text.contains("needs a queue")),
        "{problems:?}"
    );
}
