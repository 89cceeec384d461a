//! A command reads the secrets that it needs, and no others.

use echostr::hooks::Hooks;
use tempfile::TempDir;

use super::{command, ended, write};
use crate::support::{
    TestServer,
    target::{Act, Target},
};

/// Every secret is in a variable of its own.
fn config(journal: &str, url: &str) -> String {
    format!(
        "[journal]\nurl = {{ env = \"JOURNAL_URL\" }}\n[admin]\nlisten = \"127.0.0.1:1\"\ntoken = {{ env = \"ADMIN_TOKEN\" }}\n\
         [mp.shop]\napp_id = \"wx1\"\nmode = \"plain\"\ntoken = {{ env = \"SHOP_TOKEN\" }}\n\
         [im.chat]\nsdk_app_id = 1\ntoken = {{ file = \"{journal}.no-such-file\" }}\n\
         [[forward]]\nname = \"crm\"\nmatch = \"mp/shop\"\nto = \"{url}\"\nsecret = {{ env = \"CRM_KEY\" }}\n\
         [[forward]]\nname = \"erp\"\nmatch = \"mp/shop\"\nto = {{ env = \"ERP_URL\" }}\n\
         [[answer]]\nname = \"ask\"\nmatch = \"im/chat\"\nto = {{ env = \"ASK_URL\" }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_needs_no_secret_that_it_does_not_use() {
    let folder = TempDir::new().unwrap();
    let journal = folder.path().join("journal.db");
    let target = Target::start(|_, _| Act::Answer(200, "", "success")).await;
    write(folder.path(), &config(&journal.display().to_string(), &target.url()));
    // A journal, to be listed.
    let journal_url = format!("sqlite://{}", journal.display());
    let server = TestServer::start_on(&journal_url, "", "", Hooks::default()).await;
    assert!(server.stop().await.unwrap());
    let journal = [("JOURNAL_URL", &*journal_url)];
    let (shop, crm) =
        ([("SHOP_TOKEN", "shopToken")], [("CRM_KEY", "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY=")]);
    let base = format!("http://{}", target.address);
    let missing = |variable: &str| format!("environment variable `{variable}` is not set");
    for (variables, arguments, code, part) in [
        (&journal[..], &["events", "ls"][..], 0, "no event".to_owned()),
        (&journal, &["dead", "ls"], 0, "died".to_owned()),
        (&journal, &["observers", "ls"], 0, "observer".to_owned()),
        (&journal, &["forwards", "--json"], 0, format!("{}\"", target.url())),
        (&journal, &["forwards"], 0, "erp".to_owned()),
        (&journal, &["forwards", "resume", "crm"], 0, "is not paused".to_owned()),
        (&[], &["health"], 1, "no server at 127.0.0.1:1".to_owned()),
        (&shop, &["simulate", "mp/shop", "text", "--url", &base], 0, "← 200".to_owned()),
        (&crm, &["forwards", "test", "crm", "text"], 0, "delivered".to_owned()),
        // What is needed is missed by its name and line.
        (
            &[],
            &["events", "ls"],
            1,
            format!("echostr.toml:2: [journal] `url` cannot be read: {}", missing("JOURNAL_URL")),
        ),
        (
            &journal,
            &["simulate", "mp/shop", "text"],
            1,
            format!("echostr.toml:9: [mp.shop] `token` cannot be read: {}", missing("SHOP_TOKEN")),
        ),
        (
            &shop,
            &["simulate", "im/chat", "Sns.CallbackFriendAdd"],
            1,
            "[im.chat] `token` cannot be read: file".to_owned(),
        ),
        (&shop, &["forwards", "test", "crm", "text"], 1, missing("CRM_KEY")),
        (&shop, &["forwards", "test", "erp", "text"], 1, missing("ERP_URL")),
        (&[], &["check"], 1, missing("SHOP_TOKEN")),
        (&[], &["serve"], 1, missing("SHOP_TOKEN")),
    ] {
        let mut command = command(folder.path(), arguments);
        command.envs(variables.iter().copied());
        let said = ended(command).await.with(code, &[&part]);
        assert!(!said.text().contains("shopToken"), "{arguments:?}");
    }
    assert!(target.requests().iter().all(|request| !request.path.contains("im/chat")));
}
