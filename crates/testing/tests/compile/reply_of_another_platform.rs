//! A message of WeCom is answered with a reply of an Official Account.

use echostr::{
    events::wecom,
    hooks::{Context, HandlerError, Hooks},
    replies::mp::Reply,
};

async fn greet(_: wecom::TextMessage, _: Context) -> Result<Reply, HandlerError> {
    Ok(Reply::text("hello"))
}

fn main() {
    let _ = Hooks::default().on(greet);
}
