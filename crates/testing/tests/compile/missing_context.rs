//! A handler does not take the context.

use echostr::{
    events::mp,
    hooks::{HandlerError, Hooks},
    replies::mp::Reply,
};

async fn greet(_: mp::TextMessage) -> Result<Reply, HandlerError> {
    Ok(Reply::text("hello"))
}

fn main() {
    let _ = Hooks::default().on(greet);
    let _ = Hooks::default().on(async |_: mp::TextMessage| Ok(Reply::text("hello")));
}
