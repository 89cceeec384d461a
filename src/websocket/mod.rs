//! AI bots over WebSocket: the account connects to the platform, instead of receiving requests.
//!
//! ```text
//! lease ──▶ connection ──▶ subscribed ──▶ frame ──▶ delivery (admit, respond, record) ──▶ answer ──▶ frame, acknowledged
//!               ▲                                                                           │
//!               └── broken: 1 s … 30 s · another client: 30 s … 30 min          journal: how far it is
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `connection` | which node connects, and when |
//! | `socket` | TCP, TLS, the handshake |
//! | `session` | one connection: frames, acknowledgements, pings |
//! | `frame` | what a frame is |
//! | `answers` | from a message to its answer; what was left behind is taken up |
//! | `sending` | sends one answer, once |
//! | `bot` | what handlers do over the connection |

mod answers;
mod bot;
mod connection;
mod frame;
mod sending;
mod session;
mod socket;

use std::{collections::HashMap, fmt, sync::Arc};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    answers::OBSERVER,
    bot::{Bot, BotError, Chat, MediaKind},
};
use self::{
    answers::{Answers, LONGEST_ANSWER},
    connection::{Connection, Status},
    sending::Sender,
    session::Link,
};
use crate::{
    config::Config,
    delivery::{Endpoint, Receiver},
    event,
    hooks::Hooks,
    journal::{self, Journal, KeptLease},
    metrics::Metrics,
    observers::{Job, Scope},
    supervisor::Supervisor,
};

/// Where the connection of each account will be.
#[derive(Default)]
pub(crate) struct Links(HashMap<Arc<str>, watch::Sender<Link>>);

impl Links {
    /// Those of the accounts of a configuration that connect.
    pub(crate) fn new(config: &Config) -> Self {
        let connecting = config.accounts.iter().filter(|account| account.websocket.is_some());
        Self(connecting.map(|account| (account.id().into(), watch::Sender::new(Link::Absent))).collect())
    }

    /// The connection of an account, for handlers.
    pub(crate) fn bot(&self, account: &Arc<str>) -> Option<Bot> {
        self.0.get(account).map(|link| Bot::new(Arc::clone(account), link.subscribe()))
    }
}

/// The observer that takes up what was not answered, if an account connects.
pub fn observer(config: &Config, hooks: &Arc<Hooks>) -> Option<journal::Observer> {
    let connecting = config.accounts.iter().filter(|account| account.websocket.is_some());
    let accounts: Vec<String> = connecting.map(|account| account.id()).collect();
    let hooks = Arc::clone(hooks);
    (!accounts.is_empty()).then(|| journal::Observer {
        name: OBSERVER.into(),
        in_order: false,
        from_beginning: false,
        wants: Arc::new(move |account, event_type| {
            answers::is_message(event_type)
                && accounts.iter().any(|known| known == account)
                && hooks.responder(account, event_type, event::by_id(event_type)).is_some()
        }),
        // It is given every message from the beginning.
        unanswered: None,
    })
}

/// The connections of a server.
pub(crate) struct Connections {
    connections: Vec<Arc<Connection>>,
    statuses: Statuses,
    stopping: CancellationToken,
    running: TaskTracker,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("statuses", &self.statuses).finish_non_exhaustive()
    }
}

/// What the connections of a server are doing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statuses(Arc<[(Arc<str>, Arc<Status>)]>);

impl Statuses {
    /// What the connection of an account is doing, in a word and in a sentence.
    pub(crate) fn of(&self, account: &str) -> Option<(&'static str, String)> {
        let (_, status) = self.0.iter().find(|(known, _)| **known == *account)?;
        let state = status.get();
        Some((state.as_str(), state.to_string()))
    }

    /// A line for each account.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(account, status)| format!("{account}: {}\n", status.get()))
    }
}

impl Connections {
    /// The connections of these accounts. None is made yet.
    pub(crate) fn new(
        endpoints: Vec<Arc<Endpoint>>,
        mut links: Links,
        receiver: &Arc<Receiver>,
        journal: &Arc<dyn Journal>,
        metrics: &Metrics,
        supervisor: &Supervisor,
    ) -> Self {
        let stopping = CancellationToken::new();
        let tasks = supervisor.group("websocket.answers");
        let connections = endpoints.into_iter().filter_map(|endpoint| {
            let account = Arc::clone(&endpoint.id);
            let (settings, link) = (endpoint.account.websocket.clone()?, links.0.remove(&account)?);
            let sender = Sender {
                link: link.subscribe(),
                journal: Arc::clone(journal),
                receiver: Arc::clone(receiver),
                stopping: stopping.clone(),
            };
            Some(Arc::new(Connection {
                metrics: metrics.websocket(&account),
                answers: Arc::new(Answers::new(endpoint, Arc::clone(receiver), sender, tasks.clone())),
                lease: KeptLease::new(journal, format!("websocket/{account}")),
                account,
                settings,
                link,
                journal: Arc::clone(journal),
                status: Arc::default(),
                stopping: stopping.clone(),
            }))
        });
        let connections: Vec<_> = connections.collect();
        let status = |it: &Arc<Connection>| (Arc::clone(&it.account), Arc::clone(&it.status));
        let statuses = Statuses(connections.iter().map(status).collect());
        Self { connections, statuses, stopping, running: TaskTracker::new() }
    }

    /// What takes up what was not answered.
    pub(crate) fn job(&self) -> Option<Job> {
        let answers = self.connections.iter().map(|it| (Arc::clone(&it.account), Arc::clone(&it.answers)));
        (!self.connections.is_empty()).then(|| Job {
            name: OBSERVER.into(),
            timeout: Some(LONGEST_ANSWER),
            scope: Scope::Account,
            gate: None,
            run: answers::run(answers.collect()),
        })
    }

    /// What they are doing.
    pub(crate) fn statuses(&self) -> Statuses {
        self.statuses.clone()
    }

    /// Starts to connect.
    pub(crate) fn start(&self, supervisor: &Supervisor) {
        for connection in &self.connections {
            let (connection, name) = (Arc::clone(connection), format!("websocket {}", connection.account));
            let run = move || {
                let connection = Arc::clone(&connection);
                async move { connection.run().await }
            };
            self.running.spawn(supervisor.keep(&name, run));
        }
        self.running.close();
    }

    /// Sends the answers that are in the making, closes the connections, and gives their leases to other nodes.
    pub(crate) async fn stop(&self) {
        self.stopping.cancel();
        self.running.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::connection::State;

    #[test]
    fn a_bot_that_is_not_connected_is_seen_at_a_glance() {
        let bad = [State::Disconnected, State::Refused, State::Kicked];
        assert!(bad.into_iter().all(|state| state.to_string().starts_with("NOT connected")));
        assert!(!State::Standby.to_string().contains("NOT"), "another node has it");
    }
}
