//! Pictures and files of messages: downloaded from where they may be, and opened. The sealing is OpenSSL's.

use std::sync::{Arc, Mutex};

use axum::{Router, routing::get};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use echostr::{
    events::wecom_bot,
    hooks::{Context, Hooks},
    media::MediaError,
};
use openssl::symm::{Cipher, Crypter, Mode};
use serde_json::json;
use tokio::net::TcpListener;

use super::{BOT_ID, accounts, message, platform};
use crate::{
    bot::deliver,
    support::{
        TestServer,
        server::{ACCOUNTS, BOT},
        until,
    },
};

const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n not really, but forty-nine bytes long";

/// As the platform seals a file: padded to 32 bytes with the count of what is added, the IV the first half of the key.
fn seal(key: &[u8; 32], file: &[u8]) -> Vec<u8> {
    let padding = 32 - file.len() % 32;
    let padded = [file, &vec![padding as u8; padding]].concat();
    let mut crypter = Crypter::new(Cipher::aes_256_cbc(), Mode::Encrypt, key, Some(&key[..16])).unwrap();
    crypter.pad(false);
    let mut sealed = vec![0; padded.len() + 16];
    let mut length = crypter.update(&padded, &mut sealed).unwrap();
    length += crypter.finalize(&mut sealed[length..]).unwrap();
    sealed.truncate(length);
    sealed
}

/// Serves files; returns where.
async fn files(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let mut app = Router::new();
    for (path, file) in files {
        app = app.route(path, get(move || async move { file }));
    }
    let elsewhere = || async { (axum::http::StatusCode::FOUND, [("location", "http://169.254.169.254/")]) };
    let app = app.route("/moved", get(elsewhere));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

type Opened = Arc<Mutex<Vec<Result<Vec<u8>, MediaError>>>>;

fn opening(opened: &Opened) -> Hooks {
    let opened = Arc::clone(opened);
    Hooks::default().on(move |message: wecom_bot::ImageMessage, context: Context| {
        let opened = Arc::clone(&opened);
        async move {
            let result = context.media(&message.image.url).await;
            opened.lock().unwrap().push(result);
            Ok(echostr::replies::wecom_bot::Reply::none())
        }
    })
}

#[tokio::test]
async fn a_file_opens_with_the_key_beside_its_link() {
    let key = [7_u8; 32];
    let large = seal(&key, &vec![1; 5000]);
    let address = files(vec![("/picture", seal(&key, PICTURE)), ("/large", large), ("/torn", vec![0; 15])]).await;
    let platform = platform().await;
    // The platform is played on this machine, so links may lead here.
    let more = "media_limit = \"4KiB\"";
    let opened = Opened::default();
    let _server = TestServer::start_on("memory:", "", &accounts(&platform, more), opening(&opened)).await;
    let base64 = STANDARD.encode(key);
    let other = STANDARD.encode([8_u8; 32]);
    let host = || "169.254.169.254".to_owned();
    let cases = [
        (format!("http://{address}/picture"), &*base64, Ok(PICTURE.to_vec())),
        (format!("http://{address}/picture"), base64.trim_end_matches('='), Ok(PICTURE.to_vec())),
        (format!("http://{address}/picture"), "", Err("there is no key")),
        (format!("http://{address}/picture"), "short", Err("`aeskey` beside the link")),
        (format!("http://{address}/picture"), &*other, Err("cannot be decrypted")),
        (format!("http://{address}/torn"), &*base64, Err("cannot be decrypted")),
        (format!("http://{address}/large"), &*base64, Err("larger than `media_limit`")),
        (format!("http://{address}/nothing"), &*base64, Err("status 404")),
        (format!("http://{address}/moved"), &*base64, Err("status 302")),
        (format!("http://{}/", host()), &*base64, Err("does not lead to the platform")),
        ("http://a.qq.com/".to_owned(), &*base64, Err("not https")),
        ("nonsense".to_owned(), &*base64, Err("no URL")),
    ];
    for (at, (url, key, expected)) in cases.into_iter().enumerate() {
        platform.push(BOT_ID, message(&format!("m{at}"), "image", json!({ "url": url, "aeskey": key })));
        until(async || opened.lock().unwrap().len() == at + 1).await;
        let result = opened.lock().unwrap()[at].clone();
        match (&result, &expected) {
            (Ok(file), Ok(expected)) => assert_eq!(file, expected),
            (Err(failure), Err(part)) => assert!(failure.to_string().contains(part), "{url}: {failure}"),
            _ => panic!("{url}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn in_url_mode_a_file_opens_with_the_key_of_the_account() {
    let key: [u8; 32] = openssl::base64::decode_block(&format!("{}=", BOT.aes_key)).unwrap().try_into().unwrap();
    let address = files(vec![("/picture", seal(&key, PICTURE))]).await;
    let accounts =
        ACCOUNTS.replacen("[wecom_bot.helper]", &format!("[wecom_bot.helper]\nmedia_hosts = [\"{address}\"]"), 1);
    let opened = Opened::default();
    let server = TestServer::start_on("memory:", "", &accounts, opening(&opened)).await;
    let body = message("m1", "image", json!({ "url": format!("http://{address}/picture") }));
    assert_eq!(deliver(&server, &body.to_string(), "n").await.status, 200);
    assert_eq!(opened.lock().unwrap()[0].as_deref(), Ok(PICTURE));
}
