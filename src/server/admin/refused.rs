//! `/v1/refusals`: the last requests that were refused, and why.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, error::CommonErrors, json::Json, shown::time};
use crate::server::refusals::RefusedRequest;

/// The last refused requests.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RefusalList {
    /// The newest first, 100 at most, since the start of this process.
    refusals: Vec<RefusalDetail>,
}

/// A refused request, or several that are alike. Neither its body nor values of its query are kept.
#[derive(Debug, Serialize, ToSchema)]
struct RefusalDetail {
    /// When the last of them came.
    #[schema(format = "date-time")]
    time: String,
    /// The account; null where none has the path.
    account: Option<String>,
    /// The method.
    method: String,
    /// The path.
    path: String,
    /// Names of the parameters of the query; `…` for what does not look like a name.
    parameters: Vec<String>,
    /// A reason code, as in the response.
    reason: String,
    /// The likely cause, and what to do.
    hint: String,
    /// The step of the verification that failed; null where none was tried.
    step: Option<String>,
    /// Address of the client.
    client: String,
    /// How many of them came from this client.
    count: u64,
}

impl From<RefusedRequest> for RefusalDetail {
    fn from(refused: RefusedRequest) -> Self {
        let RefusedRequest { time: at, account, method, path, parameters, reason, hint, step, client, count } = refused;
        Self {
            time: time(at),
            account: account.map(|account| account.to_string()),
            method,
            path,
            parameters,
            reason: reason.to_owned(),
            hint,
            step: step.map(str::to_owned),
            client: client.to_string(),
            count,
        }
    }
}

/// Lists the last refused requests
#[utoipa::path(
    get, path = "/v1/refusals", tag = "accounts",
    responses((status = 200, description = "The last ones.", body = RefusalList), CommonErrors),
)]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Json<RefusalList> {
    Json(RefusalList { refusals: admin.refusals.all().into_iter().map(Into::into).collect() })
}
