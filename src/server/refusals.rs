//! The last requests that were refused, for the event API. Neither bodies nor values of the query are kept: whoever can be
//! refused can send anything, and a console that is set up wrongly sends what is secret.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::request::Parts;

use super::unrouted::shown;
use crate::{envelope::Step, journal};

/// Refused requests that are kept, and how many of them may be of one client: whoever sends many pushes out its own.
const MAX_REFUSALS: usize = 100;
const MAX_OF_CLIENT: usize = 50;

/// Names of parameters that are kept of a request, and how long one may be.
const MAX_PARAMETERS: usize = 16;
const MAX_NAME: usize = 32;

/// How much of a text is kept.
const MAX_HINT: usize = 512;

/// The last refused requests of a server, the newest first.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<VecDeque<RefusedRequest>>);

/// A refused request, or several of one kind.
#[derive(Clone, Debug)]
pub(super) struct RefusedRequest {
    /// When the last of them came, in milliseconds since 1970.
    pub(super) time: journal::Millis,
    /// None where no account has the path.
    pub(super) account: Option<Arc<str>>,
    pub(super) method: String,
    pub(super) path: String,
    /// Names of the parameters of the query.
    pub(super) parameters: Vec<String>,
    pub(super) reason: &'static str,
    pub(super) hint: String,
    /// The step of the verification that failed.
    pub(super) step: Option<&'static str>,
    pub(super) client: IpAddr,
    /// How many of the same account, path, reason and client came.
    pub(super) count: u64,
}

impl RefusedRequest {
    /// A request that was just refused.
    pub(super) fn new(head: &Parts, client: IpAddr, reason: &'static str, hint: String) -> Self {
        Self {
            time: journal::now_millis(),
            account: None,
            method: head.method.as_str().chars().take(MAX_NAME).collect(),
            path: shown(head.uri.path()).to_owned(),
            parameters: parameters(head.uri.query().unwrap_or_default()),
            reason,
            hint,
            step: None,
            client,
            count: 1,
        }
    }

    /// Of this account, at this step.
    pub(super) fn of(self, account: &Arc<str>, step: Option<&Step>) -> Self {
        let hint = step.map_or(self.hint, |step| step.detail.clone());
        Self { account: Some(Arc::clone(account)), hint, step: step.map(|step| step.name), ..self }
    }

    fn is_as(&self, other: &Self) -> bool {
        self.reason == other.reason
            && self.client == other.client
            && self.account == other.account
            && self.path == other.path
            && self.method == other.method
    }
}

impl Refusals {
    /// Adds a request. One of many that are alike does not push out the others.
    pub(super) fn add(&self, mut refused: RefusedRequest) {
        refused.hint.truncate(refused.hint.floor_char_boundary(MAX_HINT));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter().position(|known| known.is_as(&refused)).and_then(|at| all.remove(at)) {
            refused.count = known.count.saturating_add(1);
            // Of many not each one is looked at closely.
            let is_less = refused.hint.len() < known.hint.len();
            if refused.step.is_none() && (known.step.is_some() || is_less) {
                (refused.step, refused.hint) = (known.step, known.hint);
            }
        }
        let of_client = |known: &RefusedRequest| known.client == refused.client;
        if all.iter().filter(|known| of_client(known)).count() >= MAX_OF_CLIENT
            && let Some(oldest) = all.iter().rposition(of_client)
        {
            all.remove(oldest);
        }
        all.truncate(MAX_REFUSALS - 1);
        all.push_front(refused);
    }

    /// All of them, the newest first.
    pub(super) fn all(&self) -> Vec<RefusedRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// The names in a query. What does not look like a name may be anything.
fn parameters(query: &str) -> Vec<String> {
    let is_name = |name: &str| {
        (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
    };
    let names = query.split('&').filter(|pair| !pair.is_empty()).take(MAX_PARAMETERS);
    let name = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_name(name) => name.to_owned(),
        _ => "…".to_owned(),
    };
    names.map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str, client: u8) -> RefusedRequest {
        let request = axum::http::Request::get(path).body(()).unwrap_or_default();
        RefusedRequest::new(&request.into_parts().0, IpAddr::from([10, 0, 0, client]), "stale", "old".repeat(1000))
    }

    #[test]
    fn of_a_query_only_names_are_kept() {
        let query = "signature=abc&nonce=1&s3cr3t&Zm9v=x&a b=1&&".to_owned() + &"x=1&".repeat(100);
        let kept = parameters(&query);
        assert_eq!(&kept[..5], ["signature", "nonce", "…", "…", "…"]);
        assert_eq!(kept.len(), MAX_PARAMETERS);
        assert_eq!(parameters(""), [""; 0]);
    }

    #[test]
    fn those_that_are_alike_are_one_and_the_number_is_bounded() {
        let refusals = Refusals::default();
        for _ in 0..1000 {
            refusals.add(refused("/mp/shop?signature=secret", 1));
        }
        refusals.add(refused("/mp/other", 1));
        let all = refusals.all();
        assert_eq!(
            all.iter().map(|it| (&*it.path, it.count)).collect::<Vec<_>>(),
            [("/mp/other", 1), ("/mp/shop", 1000)]
        );
        assert!(all.iter().all(|it| it.hint.len() <= MAX_HINT && !format!("{it:?}").contains("secret")));
        for at in 0..500 {
            refusals.add(refused(&format!("/mp/{at}"), 2));
        }
        let all = refusals.all();
        assert_eq!((all.len(), &*all[0].path), (2 + MAX_OF_CLIENT, "/mp/499"));
        assert!(all.iter().any(|it| &*it.path == "/mp/shop"), "one client does not push out the others");
        for at in 0..500 {
            refusals.add(refused(&format!("/mp/{at}"), u8::try_from(at % 100).unwrap_or_default()));
        }
        assert_eq!((refusals.all().len(), &*refusals.all()[0].path), (MAX_REFUSALS, "/mp/499"));
    }
}
