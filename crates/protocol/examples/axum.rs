//! An Official Account behind axum, with the types alone: no journal, no retries, no server of ours.
//!
//! `TOKEN=… AES_KEY=… APP_ID=… cargo run -p echostr-protocol --example axum`

use std::{env, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use echostr_protocol::{Keys, Platform, Push, ReceiveError, Received, events::mp, replies::mp::Reply};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys = Keys::new(Platform::Mp, env::var("TOKEN")?).with_aes_key(&env::var("AES_KEY")?)?;
    let keys = Arc::new(keys.for_id(&env::var("APP_ID")?));
    let routes = Router::new().route("/", get(receive).post(receive)).with_state(keys);
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:8080").await?, routes).await?;
    Ok(())
}

async fn receive(State(keys): State<Arc<Keys>>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    let response = match keys.receive(&query.unwrap_or_default(), &body) {
        Ok(Received::UrlCheck(response)) => response,
        Ok(Received::Push(push)) => {
            // What cannot be said is not said: the platform repeats what has no answer.
            keys.reply(&push, respond(&push)).unwrap_or_else(|_| push.success())
        }
        Err(ReceiveError::Refused(_)) => return StatusCode::FORBIDDEN.into_response(),
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    };
    ([(header::CONTENT_TYPE, response.content_type)], response.body).into_response()
}

fn respond(push: &Push) -> Reply {
    if let Some(message) = push.event::<mp::TextMessage>() {
        return Reply::text(format!("You wrote: {}", message.content));
    }
    if push.event::<mp::Subscribe>().is_some() {
        return Reply::text("Welcome.");
    }
    Reply::none()
}
