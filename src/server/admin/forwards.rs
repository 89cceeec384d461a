//! `/v1/forwards`: where events are forwarded to.

use serde::Serialize;
use utoipa::ToSchema;

use super::{error::CommonErrors, json::Json};

/// The forwards.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ForwardList {
    /// In the order of the configuration.
    forwards: Vec<serde_json::Value>,
}

/// Lists forwards
#[utoipa::path(
    get, path = "/v1/forwards", tag = "forwards",
    responses((status = 200, description = "The forwards.", body = ForwardList), CommonErrors),
)]
pub(super) async fn list() -> Json<ForwardList> {
    Json(ForwardList { forwards: Vec::new() })
}
