//! Every message and event that WeChat, WeCom and Tencent IM push, as data: how it is recognised, its fields, samples in
//! each form, what may answer it.
//!
//! There is one TOML file per platform, and it is part of this crate. The typed events of `echostr-protocol`, the event
//! reference and the samples that `echostr simulate` sends all come from here.
//!
//! ```
//! let catalog = echostr_catalog::platform("mp")?;
//! let entry = catalog.event.iter().find(|entry| entry.id == "mp.event.subscribe");
//! assert!(entry.is_some_and(|entry| entry.fields.iter().any(|field| field.name == "EventKey")));
//! # Ok::<_, echostr_catalog::CatalogError>(())
//! ```

mod field;
mod model;

pub use field::Field;
pub use model::{
    Catalog, Confidence, Element, Entry, Envelope, Fork, Form, Kind, PassiveReplies, Phase, Platform, Reply, ReplyRule,
    Response, Variant,
};

/// A platform: its name, its file, and the file with the events of a fork.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../", $name, ".toml")), include_str!(concat!("../fork/", $name, ".toml")))),*]
    };
}

/// The platforms and their files, in the order of the documentation. A platform is listed here and nowhere else.
const FILES: [(&str, &str, &str); 8] =
    files!["mp", "miniprogram", "openplatform", "wecom", "wecom_suite", "wecom_kf", "wecom_bot", "im"];

/// The file of the passive replies, which several platforms share.
pub const PASSIVE_REPLIES: (&str, &str) = ("passive_reply", include_str!("../passive_reply.toml"));

/// Why a part of the catalogue cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// There is no such file.
    #[error("unknown platform `{0}`; expected one of {names}", names = platforms().collect::<Vec<_>>().join(", "))]
    Unknown(String),
    /// The file is no TOML, or has a key that the catalogue does not have.
    #[error("catalog/{file}.toml: {source}")]
    Invalid {
        /// Name of the file.
        file: String,
        /// What is wrong, with the line.
        source: toml::de::Error,
    },
}

/// The names of the platforms, in the order of the documentation.
pub fn platforms() -> impl ExactSizeIterator<Item = &'static str> {
    FILES.iter().map(|(name, ..)| *name)
}

/// The text of a platform's file.
///
/// # Errors
/// [`CatalogError::Unknown`] when there is none of that name.
pub fn text(platform: &str) -> Result<&'static str, CatalogError> {
    file(platform).map(|(_, text, _)| *text)
}

/// The text of the file with a fork's events of a platform.
///
/// # Errors
/// [`CatalogError::Unknown`] when there is no platform of that name.
pub fn fork_text(platform: &str) -> Result<&'static str, CatalogError> {
    file(platform).map(|(.., fork)| *fork)
}

fn file(platform: &str) -> Result<&'static (&'static str, &'static str, &'static str), CatalogError> {
    FILES.iter().find(|(name, ..)| *name == platform).ok_or_else(|| CatalogError::Unknown(platform.to_owned()))
}

/// The catalogue of a platform, with the events of a fork last. Reads the whole file: keep what is needed.
///
/// # Errors
/// [`CatalogError::Unknown`] when there is no platform of that name; a test reads every file.
pub fn platform(name: &str) -> Result<Catalog, CatalogError> {
    let mut catalog = Catalog::parse(name, text(name)?)?;
    catalog.event.extend(Fork::parse(name, fork_text(name)?)?.event);
    Ok(catalog)
}

/// The documents that answer a message or an event in the response itself.
///
/// # Errors
/// Never; a test reads the file.
pub fn passive_replies() -> Result<PassiveReplies, CatalogError> {
    let (name, text) = PASSIVE_REPLIES;
    PassiveReplies::parse(name, text)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_file_is_listed_and_can_be_read() {
        let mut listed = BTreeSet::new();
        for name in platforms() {
            let catalog = platform(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(catalog.platform.name, name);
            assert!(!catalog.event.is_empty(), "{name}");
            listed.insert(format!("{name}.toml"));
        }
        passive_replies().unwrap_or_else(|error| panic!("{error}"));
        listed.extend(["passive_reply.toml", "Cargo.toml"].map(str::to_owned));

        let folder = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the folder of the catalogue");
        let files = folder.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let files: BTreeSet<_> = files.filter(|name| name.ends_with(".toml")).collect();
        assert_eq!(files, listed);
    }

    #[test]
    fn an_unknown_platform_and_an_unknown_key_are_refused() {
        let error = platform("qq").expect_err("there is no such platform");
        assert!(error.to_string().starts_with("unknown platform `qq`; expected one of mp, "), "{error}");

        let text = text("mp").expect("mp").replacen("required = true", "requierd = true", 1);
        let error = Catalog::parse("mp", &text).expect_err("no key has this name").to_string();
        assert!(error.starts_with("catalog/mp.toml: TOML parse error at line "), "{error}");
        assert!(error.contains("unknown field `requierd`"), "{error}");
    }
}
