//! `echostr health`: the probe of a container that has no other program.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::ExitCode,
    time::Duration,
};

use super::{ConfigArgument, Done, reachable};
use crate::{
    config::{Config, Needs, find_config},
    http,
};

const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(arguments: &ConfigArgument) -> Done {
    let config = Config::load_for(&find_config(arguments.config.as_deref())?, Needs::NONE)?;
    let address = reachable(config.admin.listen);
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(|failure| {
        let advice = http::io_advice(&failure).map_or_else(String::new, |advice| format!("; {advice}"));
        format!("no server at {address}: {failure}{advice}")
    })?;
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
