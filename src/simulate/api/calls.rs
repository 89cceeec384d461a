//! What becomes of a call: a fault, or the part of the API that its path names.

use std::{
    future::pending,
    io,
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State as Extract},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt as _, Limited};
use rand::RngExt as _;
use serde_json::{Value, json};

use super::{Answer, Faults, Refused, Shared, lock};
use crate::envelope::Query;

const LONGEST_BODY: usize = 1 << 20;

/// What becomes of a call.
enum Fate {
    Normal,
    Refused(Refused),
    BadGateway,
    Garbage,
    Cut,
    Silent,
}

pub(super) async fn answer(Extract(shared): Extract<Arc<Mutex<Shared>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LONGEST_BODY).collect().await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let body = body.to_bytes();
    let (fate, answer) = {
        let mut shared = lock(&shared);
        *shared.counts.calls.entry(head.uri.path().to_owned()).or_default() += 1;
        let fate = shared.fate();
        let done = match &fate {
            Fate::Normal | Fate::Cut => shared.call(&head.method, &head.uri, &body),
            Fate::Refused(Refused(code, text)) => Err(Refused(*code, text)),
            _ => Ok(Value::Null),
        };
        (fate, done)
    };
    match fate {
        Fate::BadGateway => StatusCode::BAD_GATEWAY.into_response(),
        Fate::Garbage => "<html>busy</html>".into_response(),
        Fate::Silent => pending().await,
        Fate::Cut => Response::new(Body::from_stream(cut())),
        Fate::Normal | Fate::Refused(_) => {
            let mut answer = answer.unwrap_or_else(|Refused(code, text)| json!({ "errcode": code, "errmsg": text }));
            if let Some(object) = answer.as_object_mut() {
                object.entry("errcode").or_insert_with(|| 0.into());
                object.entry("errmsg").or_insert_with(|| "ok".into());
            }
            answer.to_string().into_response()
        }
    }
}

/// A body that breaks off.
fn cut() -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    futures_util::stream::iter([Ok(Bytes::from_static(b"{\"err")), Err(io::ErrorKind::ConnectionAborted.into())])
}

impl Shared {
    /// Whether something happens to this call.
    fn fate(&mut self) -> Fate {
        let Faults { bad_gateway, busy, limited, garbage, cut, silent, revoked, .. } = self.faults;
        if self.chance(revoked) {
            self.revoke();
        }
        match () {
            () if self.chance(bad_gateway) => Fate::BadGateway,
            () if self.chance(busy) => Fate::Refused(Refused(-1, "system busy")),
            () if self.chance(limited) => Fate::Refused(Refused(45009, "api freq out of limit")),
            () if self.chance(garbage) => Fate::Garbage,
            () if self.chance(cut) => Fate::Cut,
            () if self.chance(silent) => Fate::Silent,
            () => Fate::Normal,
        }
    }

    pub(super) fn chance(&mut self, likely: f64) -> bool {
        likely > 0.0 && self.rng.random_bool(likely.min(1.0))
    }

    fn call(&mut self, method: &Method, uri: &Uri, body: &[u8]) -> Answer {
        let query = Query::parse(uri.query().unwrap_or_default()).map_err(|_| Refused(40035, "invalid parameter"))?;
        let body = match *method {
            Method::POST => serde_json::from_slice(body).map_err(|_| Refused(47001, "data format error"))?,
            _ => Value::Null,
        };
        match (method, uri.path()) {
            (&Method::GET, "/cgi-bin/gettoken") => {
                let (id, secret) = (query.get("corpid"), query.get("corpsecret"));
                // WeCom looks at the address when something is called.
                return self.token(id.unwrap_or_default(), secret.unwrap_or_default(), false);
            }
            (&Method::POST, "/cgi-bin/stable_token") => {
                if body["grant_type"] != "client_credential" {
                    return Err(Refused(40002, "invalid grant_type"));
                }
                if self.barred_address {
                    return Err(Refused(40164, "invalid ip 127.0.0.1, not in whitelist"));
                }
                let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
                return self.token(&text("appid"), &text("secret"), body["force_refresh"] == true);
            }
            (&Method::POST, "/cgi-bin/component/api_component_token") => {
                return self.third_party(&body, "component_appid", "component_appsecret", "component_verify_ticket");
            }
            (&Method::POST, "/cgi-bin/service/get_suite_token") => {
                return self.third_party(&body, "suite_id", "suite_secret", "suite_ticket");
            }
            (_, path) if path.starts_with("/cgi-bin/component/") => {
                self.check_token(query.get("component_access_token"))?;
                return self.component(path, &body);
            }
            (_, path) if path.starts_with("/cgi-bin/service/") => {
                self.check_token(query.get("suite_access_token"))?;
                return self.service(path, &body);
            }
            _ => self.check_token(query.get("access_token"))?,
        }
        if self.barred_address {
            return Err(Refused(60020, "not allow to access from your ip"));
        }
        if let Some(answer) = self.answers.get(uri.path()).cloned() {
            return Ok(self.note_answered(uri.path(), &body, answer));
        }
        match (method, uri.path()) {
            (&Method::POST, "/cgi-bin/kf/sync_msg") => self.sync(&body),
            (&Method::POST, "/cgi-bin/kf/send_msg") => self.kf_send(&body),
            (&Method::POST, "/cgi-bin/kf/send_msg_on_event") => self.kf_send_on_event(&body),
            (&Method::POST, path @ "/cgi-bin/kf/service_state/trans") => self.kf_transfer(path, &body),
            (&Method::POST, path @ "/cgi-bin/message/custom/send") => self.send(path, &body),
            (&Method::POST, path @ "/cgi-bin/message/send") => {
                if !body["agentid"].is_u64() {
                    return Err(Refused(40056, "invalid agentid"));
                }
                self.send(path, &body)
            }
            (&Method::GET, "/cgi-bin/agent/get") => match query.get("agentid").map(str::parse::<u64>) {
                Some(Ok(agent)) if Some(agent) == self.barred_agent => Err(Refused(48002, "api forbidden")),
                Some(Ok(agent)) => Ok(json!({ "agentid": agent, "name": "demo" })),
                _ => Err(Refused(40056, "invalid agentid")),
            },
            (&Method::GET, "/cgi-bin/getcallbackip") => Ok(json!({ "ip_list": ["127.0.0.1"] })),
            (&Method::POST, "/cgi-bin/kf/account/list") => {
                let desks: Vec<_> =
                    self.desks.keys().map(|desk| json!({ "open_kfid": desk, "name": "demo" })).collect();
                Ok(json!({ "account_list": desks }))
            }
            _ => Err(Refused(40066, "invalid url")),
        }
    }
}
