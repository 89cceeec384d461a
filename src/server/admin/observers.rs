//! `/v1/observers`: who observes, and what is left to do.

use std::sync::Arc;

use axum::extract::State;

use super::{
    Admin,
    error::{ApiError, CommonErrors},
    json::Json,
    model::ObserverList,
};

/// Lists observers, with what is pending of each
#[utoipa::path(
    get, path = "/v1/observers", tag = "observers",
    responses((status = 200, description = "The observers.", body = ObserverList), CommonErrors),
)]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<ObserverList>, ApiError> {
    let observers = admin.store.archive().await?.observer_states().await?;
    Ok(Json(ObserverList { observers: observers.into_iter().map(Into::into).collect() }))
}
