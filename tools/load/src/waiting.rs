//! Memory of the server while nothing pending is processed: a flood of large notices of customer service to a journal in
//! memory, whose pull cannot reach the platform.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use crash::nodes::free_addresses;
use echostr::{
    crypto::EncodingKey,
    envelope::{Keys, Mode, ReceiveIds, Sender},
    event::Platform,
    payload::Form,
    secret::Secret,
};

use crate::{
    Failure,
    process::{Process, Workspace},
};

const CORP_ID: &str = "ww0123456789abcdef";
const TOKEN: &str = "echostrLoadToken";
const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

/// Notices that are sent, and their size: sealed they are just within the limit of a body.
const NOTICES: u64 = 1_500;
const LENGTH: usize = 740 << 10;

/// Prints what a server of the default limit holds after some of the flood.
pub(crate) fn run(server: Option<&Path>) -> Result<(), Failure> {
    let workspace = Workspace::new()?;
    // Nobody listens there.
    let [address, admin, platform] = free_addresses()?;
    let config = format!(
        r#"[server]
listen = "{address}"
[admin]
listen = "{admin}"
[journal]
url = "memory:"
[wecom_kf.support]
corp_id = "{CORP_ID}"
token = "{TOKEN}"
aes_key = "{AES_KEY}"
secret = "loadSecret"
api_base = "http://{platform}"
"#
    );
    let process = Process::configured(server, &workspace, address, &config)?;
    let keys = Keys {
        platform: Platform::WeComKf,
        mode: Mode::Safe,
        tokens: vec![Secret::new(TOKEN)],
        aes_keys: vec![EncodingKey::parse(AES_KEY)?],
        receive_ids: ReceiveIds::OneOf(vec![CORP_ID.to_owned()]),
        max_age: None,
        sdk_app_id: None,
    };
    println!("{NOTICES} notices of {} KiB, each of an account whose pull fails\n", LENGTH >> 10);
    println!("{:>8} {:>8} {:>8} {:>13} {:>13}", "sent", "200", "503", "journal MiB", "resident MiB");
    let (mut taken, mut refused) = (0, 0);
    for serial in 1..=NOTICES {
        match post(&process, &keys, serial)? {
            200 => taken += 1,
            503 => refused += 1,
            other => return Err(format!("a notice got {other}").into()),
        }
        if serial % 100 == 0 || serial == 1 {
            let (held, resident) = (held_mib(admin)?, process.resident_mib()?);
            println!("{serial:>8} {taken:>8} {refused:>8} {held:>13.1} {resident:>13.1}");
        }
    }
    Ok(())
}

fn post(process: &Process, keys: &Keys, serial: u64) -> Result<u16, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().cast_signed();
    let payload = format!(
        "<xml><ToUserName><![CDATA[{CORP_ID}]]></ToUserName><CreateTime>{now}</CreateTime>\
         <MsgType><![CDATA[event]]></MsgType><Event><![CDATA[kf_msg_or_event]]></Event>\
         <Token><![CDATA[{serial}-{}]]></Token><OpenKfId><![CDATA[wkDesk]]></OpenKfId></xml>",
        "t".repeat(LENGTH)
    );
    let random = u128::from(serial).to_le_bytes();
    let request = Sender::new(keys).deliver(&payload, Form::Xml, None, now, &serial.to_string(), random)?;
    let mut stream = TcpStream::connect(process.address())?;
    write!(
        stream,
        "POST /wecom_kf/support?{} HTTP/1.1\r\nHost: callback.example.com\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        request.query,
        request.body.len()
    )?;
    stream.write_all(request.body.as_bytes())?;
    status(&read(stream)?)
}

/// The journal's own measure of its memory.
fn held_mib(admin: std::net::SocketAddr) -> Result<f64, Failure> {
    let mut stream = TcpStream::connect(admin)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let text = read(stream)?;
    let value = text.lines().find_map(|line| line.strip_prefix("echostr_journal_bytes "));
    Ok(value.map_or(Ok(0.0), str::parse::<f64>)? / 1_048_576.0)
}

fn read(mut stream: TcpStream) -> Result<String, Failure> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn status(answer: &str) -> Result<u16, Failure> {
    Ok(answer.split(' ').nth(1).ok_or("no status")?.parse()?)
}
