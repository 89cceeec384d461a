//! What everything is compared with: axum as anybody would write it, which reads the body and answers a constant.

use std::net::SocketAddr;

use axum::{Router, body::Bytes, routing::post};
use tokio::{net::TcpListener, runtime::Builder};

use crate::Failure;

/// Serves until it is killed.
pub(crate) fn serve(address: SocketAddr, path: &str, size: usize) -> Result<(), Failure> {
    let answer = Bytes::from(vec![b'x'; size]);
    let router = Router::new().route(
        path,
        post(move |body: Bytes| async move {
            drop(body);
            answer.clone()
        }),
    );
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        Ok(axum::serve(listener, router).await?)
    })
}
