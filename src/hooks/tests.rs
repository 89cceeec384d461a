use std::{
    future::ready,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::*;
use crate::{
    event,
    events::{im, mp},
    replies::{im::BeforeFriendAddResp, mp::Reply},
};

async fn text(_: mp::TextMessage, _: Context) -> Result<Reply, HandlerError> {
    Ok(Reply::none())
}

async fn friend(event: im::BeforeFriendAdd, _: Context) -> Result<BeforeFriendAddResp, HandlerError> {
    Ok(BeforeFriendAddResp::for_event(&event))
}

async fn raw(_: RawEvent, _: Context) -> Result<RawReply, HandlerError> {
    Ok(RawReply::none())
}

async fn seen<E>(_: E, _: Context) -> Result<(), HandlerError> {
    Ok(())
}

/// What `hooks()` says when it cannot be right.
fn panic_of(build: impl FnOnce() -> Hooks) -> String {
    let panic = catch_unwind(AssertUnwindSafe(build)).map(drop).unwrap_err();
    *panic.downcast::<String>().expect("a text")
}

#[test]
fn what_two_answer_or_two_are_called_is_refused_wherever_it_comes_together() {
    let text_hooks = || Hooks::default().on(text);
    let named = |name: &str| Hooks::default().observe::<mp::TextMessage>(name, seen);
    for (message, expected) in [
        (panic_of(|| text_hooks().merge(text_hooks())), "`mp.message.text` has two responders"),
        (panic_of(|| Hooks::default().on_any("im/sns", raw).on_any("im/sns", raw)), "`im/sns` has two responders"),
        (panic_of(|| Hooks::default().on_any("*", raw).merge(Hooks::default().on_any("*", raw))), "has two responders"),
        (panic_of(|| named("a").merge(named("a"))), "observer called `a`"),
        (panic_of(|| named("a").account("mp/x", named("a"))), "observer called `a`"),
        (panic_of(|| Hooks::default().account("mp/x", named("a")).account("mp/y", named("a"))), "observer called `a`"),
        (panic_of(|| Hooks::default().account("mp/x", named("a")).merge(named("a"))), "observer called `a`"),
        (
            panic_of(|| Hooks::default().account("mp/x", text_hooks()).account("mp/x", text_hooks())),
            "`mp.message.text` has two responders",
        ),
        (panic_of(|| Hooks::default().account("mp/x", named("a")).account("mp/x", named("a"))), "observer called `a`"),
        (
            panic_of(|| Hooks::default().account("mp/x", Hooks::default().account("mp/y", named("a")))),
            "account `mp/x` have hooks of account `mp/y` in them",
        ),
        (panic_of(|| Hooks::default().observe_any("a", "im/nothing", seen)), "`im/nothing` matches no event"),
        (panic_of(|| Hooks::default().on_any("im.comand.*", raw)), "event; did you mean `im.command.*`?"),
        (panic_of(|| Hooks::default().on_any("mp.event.subscrib", raw)), "did you mean `mp.event.subscribe`?"),
        (panic_of(|| Hooks::default().observe_any("a", "im/grop", seen)), "did you mean `im/group`?"),
    ] {
        assert!(message.contains(expected), "{message}");
    }
    let job = || Hooks::default().background("tick", async |_| Ok(()));
    for message in [
        panic_of(|| text_hooks().merge(text_hooks())),
        panic_of(|| job().merge(job())),
        panic_of(|| job().account("mp/x", job())),
        panic_of(|| Hooks::default().account("mp/x", job()).account("mp/y", job())),
    ] {
        assert_eq!(message.matches("hooks/tests.rs:").count(), 2, "both places: {message}");
    }
}

#[test]
fn patterns_name_events_families_and_what_nobody_knows() {
    for pattern in ["*", "im/sns", "im.command.group.*", "mp.event.subscribe", "mp.event.unknown", "im.command.unknown"]
    {
        drop(Hooks::default().on_any(pattern, raw));
    }
    for pattern in ["", "mp", "mp/", "mp/nothing", "mp.event.subscrib", "MP.*", "im.sns.*", "**", "/"] {
        assert!(catch_unwind(|| Hooks::default().on_any(pattern, raw)).is_err(), "{pattern:?}");
    }
}

#[test]
fn the_nearest_responder_answers() {
    let hooks = Hooks::default()
        .merge(Hooks::default().on_any("*", raw))
        .on_any("im.command.*", raw)
        .on_any("im.command.sns.*", raw)
        .on(text)
        .account("im/own", Hooks::default().on_any("im/sns", raw).merge(Hooks::default().on(friend)));
    let selection = |account: &str, event_type: &str| {
        let spec = event::by_id(event_type);
        match &hooks.responder(account, event_type, spec).unwrap().selection {
            Selection::Event(spec) => spec.id.to_owned(),
            Selection::Pattern(pattern) => pattern.clone(),
            Selection::All => "*".to_owned(),
        }
    };
    let (before, after) = (<im::BeforeFriendAdd as Event>::SPEC.id, <im::AfterFriendAdd as Event>::SPEC.id);
    for (account, event_type, expected) in [
        ("im/other", before, "im.command.sns.*"),
        ("im/own", before, before),
        ("im/own", after, "im/sns"),
        ("im/own", "im.command.unknown", "im.command.*"),
        ("mp/shop", "mp.message.text", "mp.message.text"),
        ("mp/shop", "mp.message.image", "*"),
        ("mp/shop", "mp.message.unknown", "*"),
    ] {
        assert_eq!(selection(account, event_type), expected, "{account} {event_type}");
    }
    assert_eq!(hooks.accounts().collect::<Vec<_>>(), ["im/own"]);
    assert!(Hooks::default().on(text).responder("mp/shop", "mp.message.image", None).is_none());
}

#[test]
fn two_modules_have_hooks_for_one_account() {
    let module = |hooks: Hooks| Hooks::default().account("mp/shop", hooks);
    let observed = Hooks::default().observe::<mp::Subscribe>("a", seen);
    let hooks = module(Hooks::default().on(text)).account("mp/shop", observed);
    let hooks = hooks.merge(module(Hooks::default().on_any("mp/menu", raw).observe::<mp::Subscribe>("b", seen)));
    let responds = |event_type: &str| hooks.responder("mp/shop", event_type, event::by_id(event_type)).is_some();
    assert!(responds("mp.message.text") && responds("mp.event.click") && !responds("mp.message.image"));
    assert!(hooks.responder("mp/other", "mp.message.text", event::by_id("mp.message.text")).is_none());
    let spec = event::by_id("mp.event.subscribe");
    assert_eq!(hooks.observers("mp/shop", "mp.event.subscribe", spec).map(|it| &**it).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(hooks.accounts().collect::<Vec<_>>(), ["mp/shop"]);
}

#[test]
fn observers_of_an_account_stand_beside_the_others() {
    let hooks = Hooks::default()
        .observe::<mp::Subscribe>("follows", seen)
        .observe_any("all", "*", |_: RawEvent, _: Context| ready(Ok(())))
        .observe_any("menu", "mp/menu", |_: RawEvent, _: Context| ready(Ok(())))
        .account("mp/shop", Hooks::default().observe::<mp::Subscribe>("own", seen));
    let names = |account: &str, event_type: &str| {
        let spec = event::by_id(event_type);
        hooks.observers(account, event_type, spec).map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names("mp/shop", "mp.event.subscribe"), ["follows", "all", "own"]);
    assert_eq!(names("mp/other", "mp.event.subscribe_scan"), ["follows", "all"]);
    assert_eq!(names("mp/other", "mp.event.click"), ["all", "menu"]);
    assert_eq!(names("mp/other", "mp.event.unknown"), ["all"]);
}

#[test]
fn of_several_pairs_it_is_always_the_same_that_is_named() {
    async fn image(_: mp::ImageMessage, _: Context) -> Result<Reply, HandlerError> {
        Ok(Reply::none())
    }
    async fn link(_: mp::LinkMessage, _: Context) -> Result<Reply, HandlerError> {
        Ok(Reply::none())
    }
    let all = || Hooks::default().on(text).on(image).on(link);
    let of_accounts = || Hooks::default().account("mp/b", all()).account("mp/a", all());
    // The order of a table changes with each one that is made.
    for _ in 0..20 {
        let message = panic_of(|| all().merge(all()));
        assert!(message.starts_with("`mp.message.image` has two responders"), "{message}");
        let message = panic_of(|| of_accounts().merge(of_accounts()));
        assert!(message.starts_with("`mp.message.image` has two responders"), "{message}");
        assert_eq!(of_accounts().accounts().collect::<Vec<_>>(), ["mp/a", "mp/b"]);
    }
}

#[test]
fn whatever_a_program_registers_comes_before_the_demo() {
    let demo = || Hooks::default().on(text);
    let spec = event::by_id("mp.message.text");
    for (hooks, own) in [
        (Hooks::default().on(text), "mp.message.text"),
        (Hooks::default().on_any("mp.message.*", raw), "mp.message.*"),
        (Hooks::default().on_any("*", raw), "*"),
        (Hooks::default().account("mp/shop", Hooks::default().on(text)), "mp.message.text"),
        (Hooks::default().account("mp/shop", Hooks::default().on_any("mp/message", raw)), "mp/message"),
        (Hooks::default(), "mp.message.text"),
    ] {
        let is_default = hooks.responder("mp/shop", "mp.message.text", spec).is_none();
        let hooks = hooks.with_defaults(demo());
        let responder = hooks.responder("mp/shop", "mp.message.text", spec).unwrap();
        let selection = match &responder.selection {
            Selection::Event(spec) => spec.id.to_owned(),
            Selection::Pattern(pattern) => pattern.clone(),
            Selection::All => "*".to_owned(),
        };
        assert_eq!(selection, own);
        let of_demo = &hooks.defaults["mp.message.text"].handler;
        assert_eq!(std::ptr::eq(responder, of_demo), is_default, "{own}");
    }
}
