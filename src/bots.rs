//! What handlers of bots may use beside a reply, by account: the connection, and media.

use std::{collections::HashMap, sync::Arc};

use crate::{
    api::{self, ApiError},
    config::Config,
    media::Media,
    websocket::{Bot, Links},
};

/// The bots of a server. Cheap to clone, and nothing at all for a server that has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bots(Option<Arc<HashMap<Arc<str>, OfAccount>>>);

#[derive(Debug)]
struct OfAccount {
    /// Its connection, in WebSocket mode.
    connection: Option<Bot>,
    media: Media,
}

impl Bots {
    /// The bots of a configuration, with the connections that they will have.
    ///
    /// # Errors
    /// When nothing can be downloaded.
    pub(crate) fn new(config: &Config, links: &Links) -> Result<Self, ApiError> {
        let has_media = |it: &&crate::config::Account| !it.platform.protocol().media_hosts().is_empty();
        if !config.accounts.iter().any(|account| has_media(&account)) {
            return Ok(Self(None));
        }
        let http = api::client(&config.api)?;
        let accounts = config.accounts.iter().filter_map(|account| {
            let (id, media): (Arc<str>, _) = (account.id().into(), Media::of(account, &http)?);
            Some((Arc::clone(&id), OfAccount { connection: links.bot(&id), media }))
        });
        Ok(Self(Some(Arc::new(accounts.collect()))))
    }

    /// The connection of an account.
    pub(crate) fn connection(&self, account: &str) -> Option<&Bot> {
        self.0.as_ref()?.get(account)?.connection.as_ref()
    }

    /// Where the media of an account come from.
    pub(crate) fn media(&self, account: &str) -> Option<&Media> {
        self.0.as_ref()?.get(account).map(|account| &account.media)
    }
}
