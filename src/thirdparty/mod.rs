//! Third-party platforms (第三方平台) and third-party applications (企业微信第三方应用): they act for accounts and companies
//! that have authorised them, with tokens requested with tickets that the platform pushes.
//!
//! | pushed | becomes |
//! |---|---|
//! | a ticket, every ten minutes | a named lease of the journal, sealed; no event, for it is a secret |
//! | an authorisation | an event; the observer here redeems its code, and stores the credential |
//! | its withdrawal | an event; what was kept is removed |

mod release_test;

use std::{collections::HashSet, sync::Arc, time::Duration};

pub(crate) use self::release_test::ReleaseTest;
use crate::{
    api::{Api, Apis},
    config::{self, Config},
    journal::{self, Leased},
    late,
    observers::{Failed, Job, Run, Scope},
    payload,
};

/// Name of the observer.
pub(crate) const OBSERVER: &str = "echostr.grants";

/// Longer than a call with its pauses.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Events that give a code to redeem, with the member that has it.
const GIVEN: [(&str, &str); 4] = [
    ("openplatform.info.authorized", "AuthorizationCode"),
    ("openplatform.info.updateauthorized", "AuthorizationCode"),
    ("wecom_suite.info.create_auth", "AuthCode"),
    ("wecom_suite.info.reset_permanent_code", "AuthCode"),
];

/// Events that withdraw what was given.
const WITHDRAWN: [&str; 2] = ["openplatform.info.unauthorized", "wecom_suite.info.cancel_auth"];

/// The observer, if an account acts for others.
pub(crate) fn observer(config: &Config) -> Option<journal::Observer> {
    let acts = |account: &&config::Account| account.platform.protocol().serves_others() && account.secret.is_some();
    let accounts = config.accounts.iter().filter(acts);
    let accounts: HashSet<String> = accounts.map(config::Account::id).collect();
    (!accounts.is_empty()).then(|| journal::Observer {
        name: OBSERVER.into(),
        // In order, so that a withdrawal is not handled before its authorisation.
        in_order: true,
        from_beginning: false,
        wants: Arc::new(move |account, event_type| {
            let known = GIVEN.iter().map(|(event, _)| event).chain(&WITHDRAWN).any(|event| *event == event_type);
            known && accounts.contains(account)
        }),
        unanswered: None,
    })
}

/// What it does.
pub(crate) fn job(apis: &Apis) -> Job {
    let apis = apis.clone();
    let run: Run = Arc::new(move |leased, _, permit| {
        let apis = apis.clone();
        Box::pin(async move {
            let _permit = permit;
            let account = Arc::clone(&leased.record.account);
            let api = apis.get(&account).ok_or(Failed::NoSecret)?;
            keep(&api.without_waiting(), &leased).await
        })
    });
    Job { name: OBSERVER.into(), timeout: Some(TIMEOUT), scope: Scope::Account, gate: None, run }
}

async fn keep(api: &Api, leased: &Leased) -> Result<(), Failed> {
    let event_type = &*leased.record.event_type;
    let member = |name: &str| {
        let tree = payload::parse(leased.record.form, leased.record.payload.text()).ok()?;
        tree.as_object()?.text(name).map(str::to_owned)
    };
    let missing = || Failed::Permanent(format!("{event_type} names no authorizer, or has no authorisation code"));
    if WITHDRAWN.contains(&event_type) {
        let id = member("AuthorizerAppid").or_else(|| member("AuthCorpId")).ok_or_else(missing)?;
        return api.forget(&id).await.map_err(|failure| late::failed(api, &failure));
    }
    let name = GIVEN.iter().find(|(event, _)| *event == event_type).map(|(_, name)| *name);
    let code = name.and_then(member).ok_or_else(missing)?;
    let id = api.redeem(&code).await.map_err(|failure| late::failed(api, &failure))?;
    tracing::info!(account = api.account(), "{}: authorised by {id}", api.account());
    Ok(())
}
