//! Which events: the parameters that lists and streams share.

use jiff::Timestamp;

use super::error::ApiError;
use crate::journal::{Filter, Millis, State};

/// A struct of parameters, with those of a filter.
macro_rules! filtered {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
        #[serde(deny_unknown_fields, default)]
        #[into_params(parameter_in = Query)]
        pub(super) struct $name {
            /// Only events of this platform, as in `mp`.
            platform: Option<String>,
            /// Only events of this account, as in `mp/shop`.
            account: Option<String>,
            /// Only events of this type; `mp.event.*` matches every type that begins so.
            #[serde(rename = "type")]
            #[param(rename = "type")]
            event_type: Option<String>,
            /// Only events about this openid, userid or account id.
            subject: Option<String>,
            /// Only events in this state: `responding`, `answered`, `defaulted`, `late`.
            state: Option<String>,
            /// Only events received at this time or later: RFC 3339, or milliseconds since 1970.
            since: Option<String>,
            /// Only events received before this time.
            until: Option<String>,
            /// Only events whose payload has this text, as the platform wrote it.
            text: Option<String>,
            $($(#[$field_doc])* $field: $type,)*
        }

        impl $name {
            /// Which events it selects.
            fn filter(&self) -> Result<crate::journal::Filter, $crate::server::admin::error::ApiError> {
                let Self { platform, account, event_type, subject, state, since, until, text, .. } = self;
                $crate::server::admin::filter::Fields {
                    platform: platform.as_deref(),
                    account: account.as_deref(),
                    event_type: event_type.as_deref(),
                    subject: subject.as_deref(),
                    state: state.as_deref(),
                    since: since.as_deref(),
                    until: until.as_deref(),
                    text: text.as_deref(),
                }
                .filter()
            }
        }
    };
}
pub(super) use filtered;

/// The texts of a filter. An empty one is as none.
pub(super) struct Fields<'f> {
    pub(super) platform: Option<&'f str>,
    pub(super) account: Option<&'f str>,
    pub(super) event_type: Option<&'f str>,
    pub(super) subject: Option<&'f str>,
    pub(super) state: Option<&'f str>,
    pub(super) since: Option<&'f str>,
    pub(super) until: Option<&'f str>,
    pub(super) text: Option<&'f str>,
}

impl Fields<'_> {
    pub(super) fn filter(self) -> Result<Filter, ApiError> {
        let platform = match written("platform", self.platform)? {
            Some(name) => Some(name.parse().map_err(|_| ApiError::bad_request("`platform` is not known"))?),
            None => None,
        };
        let state = match written("state", self.state)? {
            Some(name) => Some(state(name)?),
            None => None,
        };
        Ok(Filter {
            platform,
            account: written("account", self.account)?.map(str::to_owned),
            event_type: written("type", self.event_type)?.map(str::to_owned),
            subject: written("subject", self.subject)?.map(str::to_owned),
            since: time("since", self.since)?,
            until: time("until", self.until)?,
            state,
            text: written("text", self.text)?.map(str::to_owned),
            observer: None,
        })
    }
}

/// A parameter that is there. No store takes a NUL in a text.
pub(super) fn written<'p>(name: &str, value: Option<&'p str>) -> Result<Option<&'p str>, ApiError> {
    match value.filter(|value| !value.is_empty()) {
        Some(value) if value.contains('\0') => Err(ApiError::bad_request(format!("`{name}` contains a NUL"))),
        value => Ok(value),
    }
}

fn state(name: &str) -> Result<State, ApiError> {
    let known = State::ALL.into_iter().find(|state| state.as_str() == name);
    known.ok_or_else(|| {
        let names: Vec<_> = State::ALL.into_iter().map(State::as_str).collect();
        ApiError::bad_request(format!("`state` must be one of {}", names.join(", ")))
    })
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Millis>, ApiError> {
    let Some(text) = written(name, text)? else { return Ok(None) };
    let millis = text.parse().ok().or_else(|| Some(text.parse::<Timestamp>().ok()?.as_millisecond()));
    let millis = millis.filter(|millis: &Millis| Timestamp::from_millisecond(*millis).is_ok());
    let expected = || ApiError::bad_request(format!("`{name}` must be RFC 3339, or milliseconds since 1970"));
    millis.ok_or_else(expected).map(Some)
}

/// How many of a list are asked for.
pub(super) fn limit(written: Option<u32>, default: usize, most: usize) -> Result<usize, ApiError> {
    match written.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)) {
        None => Ok(default),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(ApiError::bad_request(format!("`limit` must be from 1 to {most}"))),
    }
}
