//! Names that somebody wrote: accounts, event types. One that matches nothing is refused, with the nearest that does.

use std::error::Error;

use super::archive::Source;
use crate::{
    config::nearest,
    event::{self, Platform, ReplyKind},
    journal::Filter,
    log::escape,
    webhook::event_types,
};

/// Refuses a filter that can match no event: one of an account or a type that neither the configuration nor the journal
/// has.
pub(super) async fn check(source: &Source, filter: &Filter) -> Result<(), Box<dyn Error>> {
    let is_stored =
        async |filter: Filter| Ok::<_, Box<dyn Error>>(!source.archive.newest(&filter, 1).await?.is_empty());
    if let Some(account) = &filter.account {
        let known = source.accounts().await?;
        let of = Filter { account: Some(account.clone()), ..Filter::default() };
        if !known.contains(account) && !is_stored(of).await? {
            return Err(unknown_account(account, &known).into());
        }
        if let Some(platform) = filter.platform.filter(|of| platform_of(account) != Some(*of)) {
            return Err(format!("{} is not an account of {platform}", escape(account)).into());
        }
    }
    if let Some(wanted) = &filter.event_type {
        let of = filter.account.as_deref().and_then(platform_of).or(filter.platform);
        let (account, platform) = (filter.account.clone(), filter.platform);
        let stored = Filter { event_type: Some(wanted.clone()), account, platform, ..Filter::default() };
        if let Err(wrong) = check_type(wanted, of)
            && (wanted.trim_end_matches('*').contains('*') || !is_stored(stored).await?)
        {
            return Err(wrong.into());
        }
    }
    Ok(())
}

/// Refuses a type that no event has, of a platform or of any; it may end with `*`.
pub(super) fn check_type(wanted: &str, of: Option<Platform>) -> Result<(), String> {
    let prefix = wanted.strip_suffix('*');
    if prefix.unwrap_or(wanted).contains('*') {
        return Err(format!("`{}`: an event type may have one `*`, at its end", escape(wanted)));
    }
    let is_meant = |known: &&str| prefix.map_or(*known == wanted, |prefix| known.starts_with(prefix));
    let of_platforms = |of: Option<Platform>| {
        Platform::ALL.into_iter().filter(move |platform| of.is_none_or(|of| of == *platform)).flat_map(event_types)
    };
    if of_platforms(of).any(|known| is_meant(&known)) {
        return Ok(());
    }
    let shown = escape(wanted);
    if let Some(of) = of
        && of_platforms(None).any(|known| is_meant(&known))
    {
        return Err(format!(
            "accounts of {of} have no events of the type `{shown}`; `echostr catalog {of}` lists them"
        ));
    }
    let types: Vec<&'static str> = of_platforms(of).collect();
    let hint = match prefix {
        // What types have in common, up to a dot.
        Some(prefix) => {
            let ends = |known: &'static str| known.match_indices('.').map(move |(dot, _)| &known[..=dot]);
            let families: Vec<&str> = types.iter().flat_map(|known| ends(known)).collect();
            nearest(prefix, families.into_iter()).map(|family| format!("{family}*"))
        }
        None => nearest_type(wanted, &types).map(str::to_owned),
    };
    let hint = hint.map_or_else(String::new, |known| format!("; did you mean `{known}`?"));
    Err(format!("unknown event type `{shown}`{hint}; `echostr catalog` lists them"))
}

/// The type that was meant: one that ends so, else the one that is written most alike.
pub(super) fn nearest_type<'t>(written: &str, types: &[&'t str]) -> Option<&'t str> {
    let plain = written.trim_matches(['.', ' ']).to_ascii_lowercase();
    let last = |known: &'t str| known.rsplit('.').next().unwrap_or(known);
    let is_end = |known: &&&str| known.strip_suffix(&*plain).is_some_and(|start| start.ends_with('.'));
    let by_end = || types.iter().find(is_end).copied();
    let by_last = || {
        let name = nearest(&plain, types.iter().map(|known| last(known)))?;
        types.iter().find(|known| last(known) == name).copied()
    };
    let whole = || nearest(&plain, types.iter().copied());
    if plain.is_empty() {
        return None;
    }
    if plain.contains('.') { by_end().or_else(whole) } else { by_end().or_else(by_last) }
}

/// That there is no such account, and which one may be meant.
pub(super) fn unknown_account(written: &str, known: &[String]) -> String {
    let by_name = known.iter().find(|id| id.split_once('/').is_some_and(|(_, name)| name == written));
    let near = by_name.map(String::as_str).or_else(|| nearest(written, known.iter().map(String::as_str)));
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "none is configured".to_owned(),
        None => format!("expected one of {}", known.join(", ")),
    };
    format!("unknown account `{}`; {}", escape(written), escape(&hint))
}

/// The platform of an account, as in `mp/shop`.
pub(super) fn platform_of(account: &str) -> Option<Platform> {
    account.split_once('/')?.0.parse().ok()
}

/// What to know where a filter has found nothing: questions that nobody observes are not stored.
pub(super) async fn why_nothing(source: &Source, filter: &Filter) -> Result<&'static str, Box<dyn Error>> {
    let accounts = source.accounts().await?;
    let asks = |of: Platform, event_type: &str| {
        event::by_id(event_type).is_some_and(|spec| spec.platform == of && spec.reply == ReplyKind::Verdict)
    };
    let may_ask = |of: Platform, account: &str| {
        event_types(of).any(|event_type| asks(of, event_type) && filter.may_match(account, event_type))
    };
    let is_question = accounts.iter().any(|id| platform_of(id).is_some_and(|of| may_ask(of, id)));
    Ok(match is_question {
        true => "no event; \"before\" callbacks of IM are stored only if an observer wants them",
        false => "no event",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_matches_nothing_is_refused_with_the_nearest() {
        let mp = "mp".parse().ok();
        for (wanted, of) in [
            ("mp.event.subscribe", None),
            ("mp.event.*", mp),
            ("*", None),
            ("mp.message.unknown", mp),
            ("wecom.event.unknown", None),
            ("mp.*", None),
        ] {
            assert_eq!(check_type(wanted, of), Ok(()), "{wanted}");
        }
        for (wanted, of, part) in [
            ("nosuch", None, "unknown event type `nosuch`; `echostr catalog` lists them"),
            ("mp.event.subscrib", None, "did you mean `mp.event.subscribe`?"),
            ("subscribe", mp, "did you mean `mp.event.subscribe`?"),
            ("subscribr", mp, "did you mean `mp.event.subscribe`?"),
            ("mp.mesage.*", None, "did you mean `mp.message."),
            ("mp.*.subscribe", None, "one `*`, at its end"),
            ("**", None, "one `*`, at its end"),
            ("wecom.message.text", mp, "accounts of mp have no events of the type `wecom.message.text`"),
            ("", None, "unknown event type ``"),
        ] {
            let wrong = check_type(wanted, of).expect_err(wanted);
            assert!(wrong.contains(part), "{wanted}: {wrong}");
        }
    }

    #[test]
    fn an_unknown_account_is_refused_with_the_nearest() {
        let known = ["mp/shop".to_owned(), "im/chat".to_owned()];
        for (written, part) in [
            ("mp/shpo", "did you mean `mp/shop`?"),
            ("shop", "did you mean `mp/shop`?"),
            ("wecom_kf/x", "expected one of mp/shop, im/chat"),
        ] {
            assert!(unknown_account(written, &known).contains(part), "{written}: {}", unknown_account(written, &known));
        }
        assert!(unknown_account("mp/shop", &[]).ends_with("none is configured"));
    }
}
