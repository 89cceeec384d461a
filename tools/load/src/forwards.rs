//! What a forward costs: events that go to a healthy target of this process, beside the same events without a forward.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crash::nodes::free_addresses;

use crate::{
    Failure,
    process::{Process, Workspace},
};

/// Connections that deliver.
const CONNECTIONS: u64 = 8;

/// How long the target may wait for what is left.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Prints throughput and CPU time for each event, without a forward and with one.
pub(crate) fn run(events: u64, journal: Option<&str>, server: Option<&Path>) -> Result<(), Failure> {
    let workspace = Workspace::new()?;
    println!("{events} text messages over {CONNECTIONS} connections, to a target that answers 204 at once\n");
    println!("{:<12} {:>10} {:>12} {:>14}", "forward", "events/s", "sent in s", "CPU us/event");
    let mut costs = Vec::new();
    for has_forward in [false, true] {
        let url = match journal {
            Some("sqlite") => workspace.sqlite()?,
            Some(url) => url.to_owned(),
            None => "memory:".to_owned(),
        };
        let received = Arc::new(AtomicU64::new(0));
        let target = serve(Arc::clone(&received))?;
        let [address, admin] = free_addresses()?;
        let forward = format!(
            "[[forward]]\nname = \"load\"\nmatch = \"mp/plain\"\nto = \"http://{target}/in\"\nconcurrency = 64\n\
             secret = \"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\"\n"
        );
        let config = format!(
            "[server]\nlisten = \"{address}\"\n[admin]\nlisten = \"{admin}\"\n[journal]\nurl = \"{url}\"\n\
             memory_limit = \"1GiB\"\n[mp.plain]\napp_id = \"wx0000000000000001\"\ntoken = \"loadToken\"\n\
             mode = \"plain\"\n{}",
            if has_forward { forward.as_str() } else { "" }
        );
        let process = Process::configured(server, &workspace, address, &config)?;
        let (begun, before) = (Instant::now(), process.cpu()?);
        deliver(address, events)?;
        let sent = begun.elapsed();
        while has_forward && received.load(Ordering::Relaxed) < events {
            if begun.elapsed() > TIMEOUT {
                return Err(format!("{} of {events} events were forwarded", received.load(Ordering::Relaxed)).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let took = begun.elapsed().as_secs_f64();
        let cost = (process.cpu()? - before).as_secs_f64() * 1e6 / events as f64;
        let name = if has_forward { "one" } else { "none" };
        println!("{name:<12} {:>10.0} {:>12.2} {cost:>14.1}", events as f64 / took, sent.as_secs_f64());
        costs.push(cost);
    }
    if let [without, with] = costs[..] {
        println!("\na forwarded event costs {:.1} us of CPU time beside its delivery", with - without);
    }
    Ok(())
}

/// Sends so many messages, each over a connection that is kept.
fn deliver(address: SocketAddr, events: u64) -> Result<(), Failure> {
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|connection| {
            thread::spawn(move || {
                let mut stream = BufReader::new(TcpStream::connect(address)?);
                stream.get_ref().set_nodelay(true)?;
                (connection..events).step_by(CONNECTIONS as usize).try_for_each(|serial| {
                    let request = request(serial)?;
                    stream.get_mut().write_all(request.as_bytes())?;
                    match read(&mut stream)? {
                        Some(head) if head.starts_with("HTTP/1.1 200") => Ok(()),
                        other => Err(Failure::from(format!("a delivery was answered {other:?}"))),
                    }
                })
            })
        })
        .collect();
    for sender in senders {
        sender.join().map_err(|_| "a sender panicked")??;
    }
    Ok(())
}

fn request(serial: u64) -> Result<String, Failure> {
    use echostr::{
        envelope::{Keys, Mode, ReceiveIds, Sender},
        event::Platform,
        payload::Form,
        secret::Secret,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().cast_signed();
    let keys = Keys {
        platform: Platform::Mp,
        mode: Mode::Plain,
        tokens: vec![Secret::new("loadToken")],
        aes_keys: Vec::new(),
        receive_ids: ReceiveIds::OneOf(vec!["wx0000000000000001".to_owned()]),
        max_age: None,
        sdk_app_id: None,
    };
    let payload = format!(
        "<xml><ToUserName><![CDATA[gh_account]]></ToUserName><FromUserName><![CDATA[user_{}]]></FromUserName>\
         <CreateTime>{now}</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[message {serial}]]></Content>\
         <MsgId>{}</MsgId></xml>",
        serial % 1000,
        24_762_917_300_000_000 + serial
    );
    let request = Sender::new(&keys).deliver(&payload, Form::Xml, None, now, &serial.to_string(), [0; 16])?;
    Ok(format!(
        "POST /mp/plain?{} HTTP/1.1\r\nHost: callback.example.com\r\nContent-Length: {}\r\n\r\n{}",
        request.query,
        request.body.len(),
        request.body
    ))
}

/// A target that counts what it takes.
fn serve(received: Arc<AtomicU64>) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let received = Arc::clone(&received);
            thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Ok(Some(_)) = read(&mut stream) {
                    if stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
                        return;
                    }
                    received.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    Ok(address)
}

/// Reads a head and the body behind it; returns the head.
fn read(stream: &mut BufReader<TcpStream>) -> Result<Option<String>, Failure> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        if stream.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        let line = head[start..].trim();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    stream.take(length).read_to_end(&mut Vec::new())?;
    Ok(Some(head))
}
