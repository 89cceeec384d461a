//! `echostr health`: the probe of a container that has no other program.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use super::{ConfigArgument, Done};
use crate::config::{Config, find_config};

const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(arguments: &ConfigArgument) -> Done {
    let config = Config::load(&find_config(arguments.config.as_deref())?)?;
    let mut address = config.admin.listen;
    if address.ip().is_unspecified() {
        address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port());
    }
    let mut stream =
        TcpStream::connect_timeout(&address, TIMEOUT).map_err(|error| format!("no server at {address}: {error}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        println!("ready");
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("not ready: {status}").into())
}
