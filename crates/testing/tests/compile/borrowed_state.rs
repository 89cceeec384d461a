//! A handler borrows a value of the function that registers it.

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
};

fn main() {
    let greeting = String::from("hello");
    let greeting = &greeting;
    let _ = Hooks::default().on(move |_: mp::TextMessage, _: Context| async move { Ok(Reply::text(greeting.clone())) });
}
