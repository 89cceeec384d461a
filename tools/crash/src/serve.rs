//! The server under test: the library, with handlers that leave a trace of each run.

use std::{path::Path, sync::Arc, time::Duration};

use echostr::{
    clock::Clock,
    config::Config,
    events::{mp, wecom_bot, wecom_kf},
    hooks::{Context, HandlerError, Hooks, Observe, RawEvent},
    replies::{self, mp::Reply},
    server::Server,
};
use futures_util::{StreamExt as _, stream};
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};
use tracing_subscriber::EnvFilter;

use crate::{
    Failure,
    deliveries::{FIRST_LATE, name_of, serial_of},
    effects::Effects,
};

/// Takes events as they come.
pub const LOOSE: &str = "loose";

/// Takes the events of a subject one after the other.
pub const ORDERED: &str = "ordered";

/// How long the replies take that are late.
const LATE_DURATION: Duration = Duration::from_millis(400);

/// How long a chunk of a stream takes.
const CHUNK_DURATION: Duration = Duration::from_millis(10);

/// Serves until it is asked to stop; returns whether everything finished.
pub fn run(config: &Path, effects: &Path) -> Result<bool, Failure> {
    let config = Config::load(config)?;
    let filter = EnvFilter::try_new(&config.log.level)?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init()?;
    let hooks = hooks(&Arc::new(Effects::open(effects)?));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let server = Server::bind(&config, hooks, Clock::system()).await?;
        let run = server.run(async move {
            let _ = terminate.recv().await;
        });
        Ok(run.await.is_ok())
    })
}

fn hooks(effects: &Arc<Effects>) -> Hooks {
    let runs = Arc::clone(effects);
    let respond = move |message: mp::TextMessage, _: Context| {
        let runs = Arc::clone(&runs);
        async move {
            runs.run(&message.msg_id)?;
            // A part is ready at once, a part goes on as a task.
            let id: u64 = message.msg_id.parse().unwrap_or_default();
            if serial_of(&message.msg_id).is_some_and(|serial| serial >= FIRST_LATE) {
                time::sleep(LATE_DURATION).await;
            } else if id.is_multiple_of(3) {
                time::sleep(Duration::from_millis(10 + id % 41)).await;
            }
            Ok::<_, HandlerError>(Reply::text(format!("echo: {}", message.content)))
        }
    };
    let answers = Arc::clone(effects);
    let answer = move |message: wecom_kf::TextMessage, _: Context| {
        let answers = Arc::clone(&answers);
        async move {
            answers.run(&message.text.content)?;
            Ok::<_, HandlerError>(replies::wecom_kf::Reply::text(format!("echo: {}", message.text.content)))
        }
    };
    let streams = Arc::clone(effects);
    let stream = move |message: wecom_bot::TextMessage, _: Context| {
        let streams = Arc::clone(&streams);
        async move {
            streams.run(&message.envelope.msgid)?;
            let text = format!("echo: {}", message.text.content);
            let words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
            // Each takes a moment, as those of a language model do.
            let slowly = stream::iter(words).then(async |word| {
                time::sleep(CHUNK_DURATION).await;
                word
            });
            Ok::<_, HandlerError>(replies::wecom_bot::Reply::stream(slowly))
        }
    };
    let observe = |name: &'static str| {
        let seen = Arc::clone(effects);
        move |event: RawEvent, context: Context| {
            let seen = Arc::clone(&seen);
            async move {
                let name_of = name_of(event.payload.text()).unwrap_or("?");
                seen.sighting(name, name_of, &context.event_id().to_string())?;
                let random = context.event_id().as_u128() as u64;
                if random.is_multiple_of(4) {
                    time::sleep(Duration::from_millis(random % 8)).await;
                }
                // Some fail once.
                if random.is_multiple_of(97) && context.attempt() == 1 {
                    return Err("not this time".into());
                }
                Ok::<_, HandlerError>(())
            }
        }
    };
    Hooks::default().on(respond).on(answer).on(stream).observe_any(LOOSE, "*", observe(LOOSE)).observe_any(
        Observe::named(ORDERED).in_order(),
        "*",
        observe(ORDERED),
    )
}
