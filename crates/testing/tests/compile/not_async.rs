//! A responder is not async.

use echostr::{
    events::mp,
    hooks::{Context, HandlerError, Hooks},
    replies::mp::Reply,
};

fn greet(_: mp::TextMessage, _: Context) -> Result<Reply, HandlerError> {
    Ok(Reply::text("hello"))
}

fn main() {
    let _ = Hooks::default().on(greet);
    let _ = Hooks::default().on(|_: mp::TextMessage, _: Context| Ok(Reply::text("hello")));
}
