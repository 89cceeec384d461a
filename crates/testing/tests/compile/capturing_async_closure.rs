//! An async closure captures what is around it.

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
};

fn main() {
    let greeting = String::from("hello");
    let _ = Hooks::default().on(async move |_: mp::TextMessage, _: Context| Ok(Reply::text(greeting.clone())));
}
