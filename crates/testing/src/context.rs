//! The context of a handler under test.

use std::time::{Duration, Instant};

use echostr::{
    api::{Api, Apis},
    clock::Clock,
    config::Config,
    event::{Event, Platform},
    hooks::Context,
    internals::{
        journal::{self, Ids},
        metrics::Metrics,
        supervisor::Supervisor,
        testing::{self, Parts},
    },
    payload,
    simulate::Push,
};

use crate::{FakeApi, NOW, event::push, server};

/// A context for a handler of this event, as the server would make it for its first delivery to the account
/// `PLATFORM/test`.
///
/// ```
/// use std::time::Duration;
///
/// use echostr::events::mp;
///
/// let event: mp::Subscribe = echostr_testing::sample();
/// let context = echostr_testing::context(&event).account("mp/shop").attempt(2).build();
/// assert_eq!((context.account(), context.attempt()), ("mp/shop", 2));
/// assert_eq!(context.raw().event_type, "mp.event.subscribe");
/// assert!(context.remaining() <= Duration::from_secs(5));
/// ```
#[track_caller]
pub fn context<E: Event>(event: &E) -> ContextBuilder {
    ContextBuilder::of(E::SPEC.platform, push(event))
}

/// Makes a [`Context`]. Clones of it make contexts of the same event.
#[derive(Clone, Debug)]
#[must_use]
pub struct ContextBuilder {
    parts: Parts,
    /// How long there is for the answer.
    remaining: Duration,
    /// Where there is an API to be played: of which configuration.
    config: Option<Config>,
}

impl ContextBuilder {
    fn of(platform: Platform, push: Push) -> Self {
        let clock = Clock::fixed(NOW);
        let parts = Parts {
            platform,
            account: server::account_of(platform).into(),
            form: push.form,
            payload: push.payload,
            query: None,
            id: Ids::default().next(NOW * 1000),
            deadline: Instant::now(),
            clock,
            attempt: 1,
            api: None,
        };
        let context = Self { parts, remaining: platform.protocol().account().deadline, config: None };
        match push.command {
            Some(command) => context.query("CallbackCommand", &command),
            None => context,
        }
    }

    /// The account that received the event. One of a third-party platform receives messages of others, too.
    ///
    /// # Panics
    /// When it is not `PLATFORM/NAME`.
    #[track_caller]
    pub fn account(mut self, account: &str) -> Self {
        let platform = Platform::of_account(account).filter(|_| account.contains('/'));
        self.parts.platform = platform.unwrap_or_else(|| panic!("`{account}` is no account; expected PLATFORM/NAME"));
        self.parts.account = account.into();
        self.remaining = self.parts.platform.protocol().account().deadline;
        self
    }

    /// Which attempt of an observer it is, from 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.parts.attempt = attempt;
        self
    }

    /// How much time is left for the answer when the context is built; what the platform leaves a responder without.
    pub fn remaining(mut self, remaining: Duration) -> Self {
        self.remaining = remaining;
        self
    }

    /// The time of day; [`NOW`] without.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.parts.clock = clock.clone();
        self
    }

    /// A parameter of the query that is data of the event, such as `ClientIP` of IM and `authorizer_appid` of a third-party
    /// platform; its value must need no escapes.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let query = self.parts.query.get_or_insert_default();
        if !query.is_empty() {
            query.push('&');
        }
        *query += &format!("{name}={value}");
        self
    }

    /// The platform's API, played by `api`: the account has a secret that it knows.
    ///
    /// ```
    /// use echostr::{events::mp, hooks::{Context, HandlerError}};
    /// use echostr_testing::FakeApi;
    /// use serde_json::json;
    ///
    /// async fn tag(event: mp::Subscribe, context: Context) -> Result<(), HandlerError> {
    ///     let body = json!({ "openid_list": [event.from_user()], "tagid": 134 });
    ///     context.api()?.call("cgi-bin/tags/members/batchtagging", &body).await?;
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let api = FakeApi::start(1).await.unwrap();
    /// api.set_answer("cgi-bin/tags/members/batchtagging", json!({}));
    /// let event: mp::Subscribe = echostr_testing::sample();
    /// let context = echostr_testing::context(&event).api(&api).build();
    /// tag(event, context).await.unwrap();
    /// assert_eq!(api.sent()[0].body["tagid"], 134);
    /// # }
    /// ```
    ///
    pub fn api(mut self, api: &FakeApi) -> Self {
        let mut config = server::config("");
        api.play_for(&mut config);
        self.config = Some(config);
        self
    }

    /// The context. Its deadline counts from now.
    ///
    /// # Panics
    /// When it is to have an API, and accounts of the platform have none that is played.
    #[track_caller]
    pub fn build(self) -> Context {
        let Self { mut parts, remaining, config } = self;
        parts.deadline = Instant::now() + remaining;
        if let Some(config) = config {
            let api = api_of(config, &parts);
            assert!(api.is_some(), "accounts of {} have no API that is played", parts.platform);
            parts.api = api;
        }
        testing::context(parts).unwrap_or_else(|failure| panic!("the payload was read before: {failure}"))
    }
}

/// The API of the account of a context, which the configuration has under another name.
fn api_of(mut config: Config, parts: &Parts) -> Option<Api> {
    config.accounts.retain(|known| known.platform == parts.platform);
    let (_, name) = parts.account.split_once('/')?;
    config.accounts.iter_mut().for_each(|known| name.clone_into(&mut known.name));
    let supervisor = Supervisor::default();
    let journal = journal::open(&config.journal, Vec::new(), &supervisor, &Clock::system(), None).ok()?;
    let apis = Apis::new(&config, &journal, &Metrics::new(), &supervisor).ok()?;
    let tree = payload::parse(parts.form, &parts.payload).ok()?;
    apis.of_event(&parts.account, &tree, None)
}
