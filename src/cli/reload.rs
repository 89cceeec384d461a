//! `echostr reload`: has a running server read its configuration again.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
};

use reqwest::{Method, StatusCode};

use super::{ConfigArgument, Done, archive::secret, remote::RemoteArchive, runtime};
use crate::{
    config::{Config, find_config},
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
            let config = Config::load(&find_config(arguments.config.config.as_deref())?)?;
            (format!("http://{}", reachable(config.admin.listen)), arguments.token.clone().or(config.admin.token))
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

/// An address that can be connected to, of one that is listened on.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
