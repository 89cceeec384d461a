//! `/v1/catalog`: the event types with their names, and what can be sent as a sample.

use std::collections::HashMap;

use serde::Serialize;
use tokio::{sync::OnceCell, task};
use utoipa::{IntoParams, ToSchema};

use super::{
    error::{ApiError, CommonErrors, InputErrors},
    json::{Json, Parameters},
    model::Title,
    shown::form_name,
};
use crate::{
    catalog::{self, Entry},
    event::Platform,
    payload::Form,
};

/// The names of the event types. Read once, as it takes a while.
#[derive(Debug, Default)]
pub(super) struct Titles {
    by_type: HashMap<String, Title>,
}

impl Titles {
    /// The name of an event type.
    pub(super) fn of(&self, event_type: &str) -> Title {
        let unknown = || Title { en: "Unknown event".to_owned(), zh: "未知事件".to_owned() };
        self.by_type.get(event_type).cloned().unwrap_or_else(unknown)
    }
}

/// The event types.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Types {
    /// In the order of the documentation.
    types: Vec<TypeDetail>,
}

/// An event type.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct TypeDetail {
    /// As in `mp.message.text`.
    r#type: String,
    /// As in `mp`.
    platform: String,
    /// Its name.
    name: Title,
    /// `message`, `event`, `info`, `command`, `kf_message` or `kf_event`.
    kind: String,
    /// How it may be answered, as the catalogue says it.
    reply: String,
    /// A payload; null where there is none.
    sample: Option<SampleDetail>,
}

/// The payload of a sample.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct SampleDetail {
    /// Its syntax: `xml` or `json`.
    form: String,
    /// As the platform writes it.
    payload: String,
}

/// Which event types.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TypesQuery {
    /// Only those of this platform, as in `mp`.
    platform: Option<String>,
}

/// Lists the event types
#[utoipa::path(
    get, path = "/v1/catalog", tag = "catalogue", params(TypesQuery),
    responses((status = 200, description = "The event types.", body = Types), InputErrors, CommonErrors),
)]
pub(super) async fn list(Parameters(query): Parameters<TypesQuery>) -> Result<Json<Types>, ApiError> {
    let platforms = match query.platform.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => vec![name.parse().map_err(|_| ApiError::bad_request("`platform` is not known"))?],
        None => Platform::ALL.to_vec(),
    };
    let types = task::spawn_blocking(move || {
        platforms
            .into_iter()
            .filter_map(|platform| catalog::entries(platform).ok().map(|it| (platform, it)))
            .flat_map(|(platform, entries)| {
                entries.into_iter().map(move |entry| described(platform, &entry)).collect::<Vec<_>>()
            })
            .collect()
    });
    let types = types.await.map_err(|_| ApiError::internal("the catalogue cannot be read"))?;
    Ok(Json(Types { types }))
}

fn described(platform: Platform, entry: &Entry) -> TypeDetail {
    let sample = [Form::Xml, Form::Json].into_iter().find_map(|form| {
        let payload = catalog::sample(entry, form)?.to_owned();
        Some(SampleDetail { form: form_name(form).to_owned(), payload })
    });
    TypeDetail {
        r#type: entry.id.clone(),
        platform: platform.as_str().to_owned(),
        name: title(&entry.summary),
        kind: entry.kind.as_str().to_owned(),
        reply: entry.reply.clone(),
        sample,
    }
}

/// A summary has the Chinese term in parentheses.
fn title(summary: &str) -> Title {
    let is_chinese = |text: &str| text.chars().any(|character| ('\u{4e00}'..='\u{9fff}').contains(&character));
    let mut rest = summary;
    let mut at = 0;
    while let Some(open) = rest.find('(') {
        let inside = &rest[open + 1..];
        let Some(close) = inside.find(')') else { break };
        if is_chinese(&inside[..close]) {
            return Title { en: summary[..at + open].trim_end().to_owned(), zh: inside[..close].to_owned() };
        }
        at += open + 1 + close + 1;
        rest = &inside[close + 1..];
    }
    let en = summary.trim_end_matches('.').to_owned();
    Title { zh: en.clone(), en }
}

/// The names of all event types.
pub(super) async fn titles() -> &'static Titles {
    static TITLES: OnceCell<Titles> = OnceCell::const_new();
    let read = || async {
        let read = task::spawn_blocking(|| {
            let entries = Platform::ALL.into_iter().filter_map(|platform| catalog::entries(platform).ok()).flatten();
            Titles { by_type: entries.map(|entry| (entry.id, title(&entry.summary))).collect() }
        });
        read.await.unwrap_or_default()
    };
    TITLES.get_or_init(read).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_two_names() {
        for (summary, en, zh) in [
            ("Text message from a user (文本消息).", "Text message from a user", "文本消息"),
            (
                "User followed the account (关注); with EventKey/Ticket when the follow came from a scene QR code (扫描带参数二维码).",
                "User followed the account",
                "关注",
            ),
            ("A thing (not Chinese) happened (发生).", "A thing (not Chinese) happened", "发生"),
            ("Authorisation deleted.", "Authorisation deleted", "Authorisation deleted"),
            ("Open (never closed", "Open (never closed", "Open (never closed"),
        ] {
            let title = title(summary);
            assert_eq!((&*title.en, &*title.zh), (en, zh));
        }
    }
}
