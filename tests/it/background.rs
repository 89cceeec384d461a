//! Background jobs of a program: what they may call, when they run again, on which node, and how they end.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use echostr::{
    api::{Api, ApiError},
    clock::Clock,
    config::Config,
    hooks::{Background, Hooks, ServerHandle},
    server::Server,
    simulate::api::FakeApi,
};
use serde_json::json;
use tokio::sync::oneshot;

use crate::support::{
    Log, TestServer,
    api::{accounts, sent},
    postgres::database,
    server::ACCOUNTS,
    until,
};

const TAG: &str = "cgi-bin/tags/create";

#[tokio::test]
async fn a_job_calls_the_platform_and_ends_with_the_server() {
    let api = FakeApi::start(1).await.unwrap();
    api.set_answer(TAG, json!({}));
    let kept: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let hooks = Hooks::with_shared(Arc::clone(&kept)).background("tags", async |kept, server| {
        assert_eq!(server.api("mp/shop")?.account(), "mp/shop");
        let refused = |account: &str| server.api(account).map(drop).unwrap_err().to_string();
        assert_eq!(refused("mp/shp"), "no account `mp/shp` is configured; did you mean `mp/shop`?");
        assert!(server.bot("mp/shop").is_err());
        let mut calls = 0;
        while server.sleep(Duration::from_millis(1)).await {
            server.api("mp/shop")?.call(TAG, &json!({ "tag": { "name": calls } })).await?;
            calls += 1;
        }
        *kept.lock().unwrap() = Some(server);
        Ok(())
    });
    let server = TestServer::start_with("", &accounts(&api, ""), hooks.into()).await;
    assert_eq!(sent(&api, 2).await[1].body["tag"]["name"], 1);
    assert!(server.stop().await.unwrap(), "it has ended in time");
    let handle = kept.lock().unwrap().take().unwrap();
    assert!(handle.is_stopping() && !handle.sleep(Duration::from_secs(3600)).await);
    assert_eq!(handle.api("mp/shop").map(|api: Api| api.account().to_owned()), Err(ApiError::Ended));
}

#[tokio::test]
async fn a_program_calls_the_platform_beside_its_server() {
    let api = FakeApi::start(1).await.unwrap();
    api.set_answer(TAG, json!({ "tag": { "id": 134 } }));
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[journal]\nurl = \"memory:\"\n{}\
         [mp.dumb]\ntoken = \"plainToken\"\napp_id = \"wx9\"\nmode = \"plain\"\n",
        accounts(&api, "")
    );
    let config = Config::parse(&text, "test", |name| std::env::var(name)).unwrap();
    let server = Server::bind(&config, Hooks::default(), Clock::system()).await.unwrap();
    let handle = server.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    let tag = handle.api("mp/shop").unwrap().call(TAG, &json!({ "tag": { "name": "vip" } })).await.unwrap();
    assert_eq!(tag["tag"]["id"], 134);
    assert!(matches!(handle.api("mp/dumb").map(drop), Err(ApiError::NoSecret(account)) if account == "mp/dumb"));
    assert!(!handle.is_stopping());
    let stopping = handle.stopping();
    stop.send(()).unwrap();
    stopping.await;
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_that_fails_or_panics_runs_again_and_one_that_is_done_does_not() {
    let (log, _guard) = Log::begin();
    let runs = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let hooks = Hooks::with_shared(Arc::clone(&runs))
        .background("flaky", async |runs, server| match runs[0].fetch_add(1, Ordering::SeqCst) {
            0 => panic!("no luck"),
            1 => Err("the shop is closed".into()),
            _ => {
                server.stopping().await;
                Ok(())
            }
        })
        .background("once", async |runs, _| {
            runs[1].fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
    let server = TestServer::start_with("", ACCOUNTS, hooks.into()).await;
    until(async || runs[0].load(Ordering::SeqCst) == 3).await;
    assert_eq!(runs[1].load(Ordering::SeqCst), 1);
    assert_eq!(server.metric("echostr_task_panics_total{task=\"background flaky\"}").await, 1.0);
    until(async || server.admin.get("/readyz").await.status == 200).await;
    let text = log.text();
    for line in [
        "task background flaky panicked: no luck; it starts again in 0.1 s",
        "background job flaky failed, it starts again in 1 s: the shop is closed",
        "background job once has ended",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(server.stop().await.unwrap());
}

/// Counts what is dropped.
struct Dropped(Arc<AtomicU32>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_job_that_does_not_end_in_the_grace_period_is_cancelled() {
    let (started, dropped) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let hooks = Hooks::with((Arc::clone(&started), Arc::clone(&dropped)));
    let hooks = hooks.background(Background::named("stubborn").on_one_node(), async |counts, _| {
        let _dropped = Dropped(Arc::clone(&counts.1));
        counts.0.fetch_add(1, Ordering::SeqCst);
        pending().await
    });
    let server = TestServer::start_with("shutdown_grace = \"10ms\"", ACCOUNTS, hooks.into()).await;
    until(async || started.load(Ordering::SeqCst) == 1).await;
    assert!(!server.stop().await.unwrap(), "it was cancelled");
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_job_of_one_node_moves_to_another_when_that_stops() {
    let Some(url) = database().await else { return };
    let running = [Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0))];
    let start = async |running: &Arc<AtomicU32>| {
        let hooks = Hooks::with_shared(Arc::clone(running))
            .background(Background::named("digest").on_one_node(), async |running, server| {
                running.fetch_add(1, Ordering::SeqCst);
                server.stopping().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
            .background("everywhere", async |running, _| {
                running.fetch_add(10, Ordering::SeqCst);
                Ok(())
            });
        TestServer::start_at(&url, hooks.into()).await
    };
    let count = |node: usize| running[node].load(Ordering::SeqCst);
    let first = start(&running[0]).await;
    until(async || count(0) == 11).await;
    let second = start(&running[1]).await;
    until(async || count(1) == 10).await;
    // The second asks for the lease all the time, and has it once the first is gone.
    assert!(first.stop().await.unwrap());
    assert_eq!(count(0), 10);
    until(async || count(1) == 11).await;
    assert!(second.stop().await.unwrap());
    assert_eq!(count(1), 10);
}
