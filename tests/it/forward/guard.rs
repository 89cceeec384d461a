//! Where nothing is sent to.

use std::fs;

use echostr::internals::journal::{Archive as _, Filter, sqlite::SqliteArchive};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::{Http, program::Program, server::PLAIN, server::text_message, until};

#[tokio::test]
async fn the_server_does_not_send_to_itself_whatever_its_name() {
    let folder = TempDir::new().unwrap();
    let free = async || TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (port, admin) = (free().await, free().await);
    let journal = folder.path().join("journal.db");
    let config = folder.path().join("echostr.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
         [journal]\nurl = \"sqlite://{}\"\n[mp.plain]\napp_id = \"wx9\"\ntoken = \"plainToken\"\nmode = \"plain\"\n",
        journal.display()
    );
    let targets = [("own", port), ("admin", admin)].map(|(name, port)| {
        format!("[[forward]]\nname = \"{name}\"\nmatch = \"*\"\nto = \"http://localhost:{port}/x\"\nretry = []\n")
    });
    fs::write(&config, text + &targets.concat()).unwrap();
    let program = Program::serve(&config);
    program.addresses().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let query = PLAIN.plain_query(&now, "1");
    let http = Http(([127, 0, 0, 1], port).into());
    assert_eq!(http.post(&format!("/mp/plain?{query}"), text_message(1, "hello")).await.status, 200);
    let mut dead = Vec::new();
    until(async || {
        dead = SqliteArchive::open(&journal).unwrap().dead(&Filter::default(), None, 10).await.unwrap();
        dead.len() == 2
    })
    .await;
    for letter in &dead {
        assert!(letter.error.contains("a listener of echostr itself"), "{}", letter.error);
    }
    assert!(program.stop().await);
}
