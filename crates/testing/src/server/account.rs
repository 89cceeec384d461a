//! One account of a server, which its platform delivers to.

use echostr::{
    config::Account,
    event::{Event, EventSpec, Platform, by_id},
    internals::{delivery::Endpoint, metrics::Metrics},
    simulate::{self, Answer, Player, Push},
};
use serde_json::Value;
use tokio::time::{self, Instant};

use super::{PATIENCE, POLL_INTERVAL, TestServer};
use crate::{
    Reply,
    event::{push, sample_push},
};

/// The account whose messages a third-party platform is sent.
const AUTHORIZER: &str = "wx0000000000000000";

/// An account of a [`TestServer`]; from [`TestServer::account`].
#[derive(Debug)]
pub struct TestAccount<'s> {
    server: &'s TestServer,
    endpoint: Endpoint,
}

impl<'s> TestAccount<'s> {
    pub(super) fn new(server: &'s TestServer, account: &Account) -> Self {
        let endpoint = Endpoint::new(account.clone(), &Metrics::new()).unwrap_or_else(|failure| panic!("{failure}"));
        Self { server, endpoint }
    }

    /// Sends an event, as [`TestServer::send`] does. A third-party platform is sent messages of an account that has
    /// authorised it.
    ///
    /// # Panics
    /// When the platform would not take the reply.
    pub async fn send<E: Event>(&self, event: &E) -> Reply {
        let push = push(event);
        let pulled = E::SPEC.platform.protocol().announced_by();
        match pulled.and_then(by_id) {
            Some(notice) => self.announce(&push, notice).await,
            None => self.stream(&push, self.accepted(&push, E::SPEC).await).await,
        }
    }

    /// Delivers a payload once, as it is, and gives whatever comes back; [`Answer::fault`] says why the platform would not
    /// take it.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn deliver(&self, push: &Push) -> Answer {
        let of = self.endpoint.account.platform;
        self.deliver_of(push, of).await
    }

    async fn deliver_of(&self, push: &Push, of: Platform) -> Answer {
        let url = simulate::address(&self.server.base, &self.endpoint.account, of, AUTHORIZER);
        let player = Player::new(&self.endpoint.keys, url).unwrap_or_else(|failure| panic!("{failure}"));
        player.deliver(push, self.server.clock.now()).await.unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// The answer to a push that the platform takes.
    async fn accepted(&self, push: &Push, spec: &EventSpec) -> Answer {
        let answer = self.deliver_of(push, spec.platform).await;
        let Answer { fault, body, .. } = &answer;
        assert!(fault.is_none(), "{}: {}: {body}", spec.id, fault.as_deref().unwrap_or_default());
        answer
    }

    /// Has the server pull an event, and gives what was sent to the customer.
    async fn announce(&self, push: &Push, notice: &'static EventSpec) -> Reply {
        let entry: Value = serde_json::from_str(&push.payload).unwrap_or_default();
        let open_kfid = entry["open_kfid"].as_str().or_else(|| entry["event"]["open_kfid"].as_str());
        let open_kfid = open_kfid.unwrap_or_default().to_owned();
        let api = self.server.api();
        let sent = api.sent().len();
        api.add_entry(&open_kfid, entry);
        let set = [("Token".to_owned(), api.callback_token(&open_kfid)), ("OpenKfId".to_owned(), open_kfid)];
        self.accepted(&sample_push(notice, &set), notice).await;
        self.server.observed().await;
        Reply::of_message(api.sent().into_iter().skip(sent).find(|sent| sent.path.starts_with("/cgi-bin/kf/send_")))
    }

    /// Asks for the rest of a streamed answer until it is finished, as the platform does.
    async fn stream(&self, push: &Push, mut answer: Answer) -> Reply {
        let begun = Instant::now();
        let mut number = 0;
        loop {
            let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            if told["stream"]["finish"] != false {
                return Reply::of_answer(answer);
            }
            assert!(begun.elapsed() < PATIENCE, "the stream is not finished: {}", answer.body);
            time::sleep(POLL_INTERVAL).await;
            number += 1;
            let mut poll: Value = serde_json::from_str(&push.payload).unwrap_or_default();
            poll["msgid"] = format!("{}-{number}", poll["msgid"].as_str().unwrap_or_default()).into();
            poll["msgtype"] = "stream".into();
            poll["stream"] = serde_json::json!({ "id": told["stream"]["id"] });
            answer = self.deliver(&Push { payload: poll.to_string(), ..push.clone() }).await;
            assert!(answer.fault.is_none(), "{answer:?}");
        }
    }
}
