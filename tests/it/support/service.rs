//! A service of somebody else that echostr sends requests to.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Response},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A request as the service got it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Responding = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Respond = Arc<dyn Fn(Asked) -> Responding + Send + Sync>;

/// The service, until it is dropped.
pub struct Service {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<()>,
}

impl Service {
    pub async fn start<F>(respond: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let respond: Respond = Arc::new(move |asked| Box::pin(respond(asked)));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let routes = Router::new().fallback(handle).with_state((respond, Arc::clone(&asked)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, asked, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn handle(
    State((respond, all)): State<(Respond, Arc<Mutex<Vec<Asked>>>)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let asked = Asked { headers, body };
    all.lock().unwrap().push(asked.clone());
    respond(asked).await
}

/// A response of this status and type.
pub fn response(status: u16, content_type: &str, body: impl Into<Body>) -> Response<Body> {
    let builder = Response::builder().status(status);
    let builder = if content_type.is_empty() { builder } else { builder.header("content-type", content_type) };
    builder.body(body.into()).unwrap()
}
