//! A server for the test of the inspector: it echoes, is late, and fails, as the message says.

use std::{process::ExitCode, time::Duration};

use echostr::{
    events::mp::{Subscribe, TextMessage},
    hooks::{Context, HandlerError, Hooks, Permanent, RawEvent},
    replies::mp::Reply,
};

fn main() -> ExitCode {
    echostr::run(async |_config| {
        Ok(Hooks::default()
            .on(respond)
            .on(async |_: Subscribe, _: Context| Ok(Reply::text("Welcome, 欢迎")))
            .observe_any("audit", "*", async |_: RawEvent, _: Context| Ok(()))
            .observe("crm", async |message: TextMessage, _: Context| {
                if message.content.contains("dead letter") {
                    return Err(
                        Permanent::new("POST https://crm.internal.example/hook: 422 Unprocessable Entity").into()
                    );
                }
                Ok(())
            }))
    })
}

async fn respond(message: TextMessage, _: Context) -> Result<Reply, HandlerError> {
    if message.content.contains("fail") {
        return Err("no article for the keyword `sale`".into());
    }
    if message.content.contains("slow") {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(Reply::text(format!("echo: {}", message.content)))
}
