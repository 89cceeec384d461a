//! A background job returns what is no result of one.

use echostr::hooks::Hooks;

fn main() {
    let _ = Hooks::default().background("tick", async |_| 7);
}
