//! The catalogue itself: what is said of each event, and its samples. Read on demand; the types do not need it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{event::Platform, payload::Form};

/// One message or event of the catalogue.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// The event type: `mp.event.subscribe`.
    pub id: String,
    /// Name of the Rust type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// One line, with the Chinese term.
    pub summary: String,
    /// Source file of the type.
    pub family: String,
    /// Wire values that select it.
    pub select: BTreeMap<String, String>,
    /// What may be answered.
    pub reply: String,
    /// Sample of the XML form.
    pub sample_xml: Option<String>,
    /// Sample of the JSON form.
    pub sample_json: Option<String>,
    /// Samples of other shapes.
    #[serde(default)]
    pub samples_more: Vec<String>,
}

impl Entry {
    /// The sample of one form.
    pub fn sample(&self, form: Form) -> Option<&str> {
        match form {
            Form::Xml => self.sample_xml.as_deref(),
            Form::Json => self.sample_json.as_deref(),
        }
    }
}

/// The file of a platform is not what this module expects; a build of echostr is broken.
#[derive(Debug, thiserror::Error)]
#[error("the catalogue of {platform} cannot be read: {source}")]
pub struct CatalogError {
    platform: Platform,
    source: toml::de::Error,
}

/// The events of one platform, in the order of its file.
///
/// # Errors
/// Never, unless the build is broken; a test reads every file.
pub fn entries(platform: Platform) -> Result<Vec<Entry>, CatalogError> {
    #[derive(Deserialize)]
    struct File {
        event: Vec<Entry>,
    }
    let text = match platform {
        Platform::Mp => include_str!("../catalog/mp.toml"),
        Platform::MiniProgram => include_str!("../catalog/miniprogram.toml"),
        Platform::OpenPlatform => include_str!("../catalog/openplatform.toml"),
        Platform::WeCom => include_str!("../catalog/wecom.toml"),
        Platform::WeComSuite => include_str!("../catalog/wecom_suite.toml"),
        Platform::WeComKf => include_str!("../catalog/wecom_kf.toml"),
        Platform::WeComBot => include_str!("../catalog/wecom_bot.toml"),
        Platform::Im => include_str!("../catalog/im.toml"),
    };
    toml::from_str::<File>(text).map(|file| file.event).map_err(|source| CatalogError { platform, source })
}
