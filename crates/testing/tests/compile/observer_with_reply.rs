//! An observer gives a reply, which only a responder does.

use echostr::{
    events::mp,
    hooks::{Context, HandlerError, Hooks},
    replies::mp::Reply,
};

async fn greet(_: mp::TextMessage, _: Context) -> Result<Reply, HandlerError> {
    Ok(Reply::text("hello"))
}

fn main() {
    let _ = Hooks::default().observe("audit", greet);
}
