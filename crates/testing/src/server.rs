//! A server in the process of the test, fed as the platforms would.

mod account;

use std::{sync::Arc, time::Duration};

use echostr::{
    clock::Clock,
    config::Config,
    event::{Event, Platform},
    hooks::{HandlerError, Hooks},
    internals::{journal::Journal, testing},
    server::{RunError, Server, ServerHandle},
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{self, Instant},
};

pub use self::account::TestAccount;
use crate::{FakeApi, NOW, Reply};

/// An account of every platform, and pauses that tests need not wait for.
const CONFIG: &str = include_str!("server/test.toml");

/// How long anything may take in a test. What takes longer will not happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// The account of a platform in [`CONFIG`].
pub(crate) fn account_of(platform: Platform) -> String {
    format!("{platform}/test")
}

/// The configuration of tests, with more of it.
#[track_caller]
pub(crate) fn config(more: &str) -> Config {
    let table =
        |text: &str| text.parse::<toml::Table>().unwrap_or_else(|failure| panic!("the configuration: {failure}"));
    let mut config = table(CONFIG);
    merge(&mut config, table(more));
    Config::parse(&config.to_string(), "test", |name| std::env::var(name)).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Puts `over` on top of `under`, table by table.
fn merge(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

/// Waits until `holds`.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        time::sleep(POLL_INTERVAL).await;
    }
}

/// A server with an account of every platform, `mp/test`, `wecom/test` and so on, all with an API that is played. It has a
/// journal in memory, listens on free ports of loopback, and ends with this value.
#[derive(Debug)]
pub struct TestServer {
    base: String,
    config: Config,
    clock: Clock,
    api: FakeApi,
    journal: Arc<dyn Journal>,
    handle: ServerHandle,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), RunError>>,
}

/// What a server of a test is to have beside its hooks.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    config: String,
}

impl Builder {
    /// More configuration: accounts, sections, the handlers' own tables. What is written here counts.
    ///
    /// ```
    /// # use echostr::{events::mp, hooks::{Context, Hooks}, replies::mp::Reply};
    /// # use echostr_testing::{TestServer, sample};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let server = TestServer::builder()
    ///     .config("[mp.shop]\napp_id = 'wx0123456789abcdef'\ntoken = 'shopToken'\nmode = 'plain'")
    ///     .start(Hooks::default().on(async |_: mp::TextMessage, context: Context| Ok(Reply::text(context.account()))))
    ///     .await;
    /// let reply = server.account("mp/shop").send(&sample::<mp::TextMessage>()).await;
    /// assert_eq!((reply.text().as_deref(), reply.is_sealed()), (Some("mp/shop"), false));
    /// # }
    /// ```
    pub fn config(mut self, toml: &str) -> Self {
        self.config += toml;
        self.config.push('\n');
        self
    }

    /// Starts a server with these hooks.
    ///
    /// # Panics
    /// When the configuration is wrong, or does not fit the hooks.
    pub async fn start(self, hooks: impl Into<Hooks>) -> TestServer {
        let hooks = hooks.into();
        self.start_with(async |_: &Config| Ok(hooks)).await
    }

    /// Starts a server with the hooks of this configuration: those that a program gives to [`echostr::run`].
    ///
    /// # Panics
    /// When the configuration is wrong, or does not fit the hooks.
    pub async fn start_with(self, hooks: impl AsyncFnOnce(&Config) -> Result<Hooks, HandlerError>) -> TestServer {
        let mut config = config(&self.config);
        let api = FakeApi::start(1).await.unwrap_or_else(|failure| panic!("the API cannot be played: {failure}"));
        api.play_for(&mut config);
        testing::prepare();
        let hooks = hooks(&config).await.unwrap_or_else(|failure| panic!("{failure}"));
        let clock = Clock::fixed(NOW);
        let server = Server::bind(&config, hooks, clock.clone()).await.unwrap_or_else(|failure| panic!("{failure}"));
        let address = server.address().unwrap_or_else(|failure| panic!("{failure}"));
        let (journal, handle) = (Arc::clone(server.journal()), server.handle());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        TestServer { base: format!("http://{address}"), config, clock, api, journal, handle, stop, running }
    }
}

impl TestServer {
    /// Starts a server with these hooks.
    ///
    /// # Panics
    /// When the hooks are for an account that is not there; [`Builder::config`] adds some.
    pub async fn start(hooks: impl Into<Hooks>) -> Self {
        Self::builder().start(hooks).await
    }

    /// A server with more than hooks.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Sends an event to the account of its platform, as the platform would, and gives the reply. The same event once more
    /// is a repeat, as the platform repeats a delivery.
    ///
    /// A message or event of WeCom customer service is announced, pulled and answered through the API; its reply is what was
    /// sent.
    ///
    /// # Panics
    /// When the platform would not take the reply, which [`TestAccount::deliver`] gives as it is.
    pub async fn send<E: Event>(&self, event: &E) -> Reply {
        self.account(&account_of(E::SPEC.platform)).send(event).await
    }

    /// An account, to send events to.
    ///
    /// # Panics
    /// When there is no such account.
    #[track_caller]
    pub fn account(&self, id: &str) -> TestAccount<'_> {
        let account =
            self.config.account(id).unwrap_or_else(|| panic!("no account `{id}` in the test's configuration"));
        TestAccount::new(self, account)
    }

    /// Waits until observers have seen everything that was sent, dead letters included, and says how many of these there
    /// are. Pauses between attempts are a millisecond, and what is due is tried at once.
    ///
    /// ```
    /// # use echostr::{events::mp, hooks::{Context, Hooks}};
    /// # use echostr_testing::{TestServer, sample};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let hooks = Hooks::default().observe("crm", async |_: mp::Subscribe, context: Context| match context.attempt() {
    ///     1 => Err("the CRM is away".into()),
    ///     _ => Ok(()),
    /// });
    /// let server = TestServer::start(hooks).await;
    /// server.send(&sample::<mp::Subscribe>()).await;
    /// assert_eq!(server.observed().await, 0);
    /// # }
    /// ```
    ///
    /// # Panics
    /// When it takes longer than a minute.
    pub async fn observed(&self) -> u64 {
        let done = || {
            // Observers look for what is due now and then, and at once when there is something new.
            self.journal.arrivals().notify_waiters();
            self.journal.usage().waiting == 0
        };
        until("observers have not seen all events", done).await;
        self.journal.usage().dead
    }

    /// The API of the platforms, as it is played: what was sent through it, and faults.
    pub fn api(&self) -> &FakeApi {
        &self.api
    }

    /// The server as background jobs see it: a job is a function that takes this.
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// The time of day of server and handlers, [`NOW`] until it is set.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where callbacks are received: `http://127.0.0.1:40000`.
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// Stops the server as SIGTERM does; says whether everything in flight finished in time.
    pub async fn stop(self) -> bool {
        let _ = self.stop.send(());
        self.running.await.unwrap_or_else(|failure| panic!("the server: {failure}")).is_ok()
    }
}
