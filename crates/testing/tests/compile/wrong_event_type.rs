//! A handler takes something that is no event.

use echostr::{
    hooks::{Context, HandlerError, Hooks},
    replies::mp::Reply,
};

async fn greet(_: String, _: Context) -> Result<Reply, HandlerError> {
    Ok(Reply::text("hello"))
}

fn main() {
    let _ = Hooks::default().on(greet);
}
