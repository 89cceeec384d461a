//! A responder fails with an error of its own instead of `HandlerError`.

use std::num::ParseIntError;

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
};

async fn count(message: mp::TextMessage, _: Context) -> Result<Reply, ParseIntError> {
    let number: u64 = message.content.parse()?;
    Ok(Reply::text(format!("{}", number + 1)))
}

fn main() {
    let _ = Hooks::default().on(count);
}
