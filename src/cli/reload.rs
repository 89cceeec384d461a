//! `echostr reload`: has a running server read its configuration again.

use std::{error::Error, process::ExitCode};

use reqwest::{Method, StatusCode};

use super::{ConfigArgument, Done, admin_url, archive::secret, remote::RemoteArchive, runtime};
use crate::{
    config::{Config, Needs, find_config},
    secret::Secret,
    server::Reloaded,
};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Address of the admin listener [default: `listen` of [admin]]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// `token` of [admin] that the server has now [default: that of the configuration]; better in the variable, as arguments
    /// can be seen by others
    #[arg(long, value_name = "TOKEN", env = "ECHOSTR_ADMIN_TOKEN", hide_env_values = true, value_parser = secret)]
    token: Option<Secret>,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let (url, token) = match &arguments.url {
        Some(url) => (url.clone(), arguments.token.clone()),
        None => {
            let config = Config::load_for(&find_config(arguments.config.config.as_deref())?, Needs::NONE.with_admin())?;
            (admin_url(&config), arguments.token.clone().or(config.admin.token))
        }
    };
    println!("{}", runtime()?.block_on(reload(&url, token))?);
    Ok(ExitCode::SUCCESS)
}

async fn reload(url: &str, token: Option<Secret>) -> Result<Reloaded, Box<dyn Error>> {
    let server = RemoteArchive::new(url, token)?;
    let response = server.send(Method::POST, "/v1/reload", None, true).await?;
    match response.status() {
        StatusCode::OK => Ok(serde_json::from_slice(&response.bytes().await?)?),
        _ => Err(server.refused(response).await.into()),
    }
}
