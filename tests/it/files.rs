//! Ownership files at the root of the host.

use std::{fs, os::unix::fs::symlink};

use echostr::hooks::Hooks;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use crate::support::{Log, TestServer, server::ACCOUNTS};

async fn serve(folder: &TempDir) -> TestServer {
    let files = format!("files = \"{}\"", folder.path().join("verify").display());
    TestServer::start_with(&files, ACCOUNTS, Hooks::default()).await
}

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("verify")).unwrap();
    fs::write(folder.path().join("MP_verify_outside.txt"), "secret").unwrap();
    folder
}

async fn request(server: &TestServer, method: &str, target: &str) -> crate::support::Answer {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    server.http.send(request.as_bytes()).await
}

/// The answer to a HEAD, which has no body.
async fn head(server: &TestServer, target: &str) -> String {
    let request = format!("HEAD {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    server.http.open(request.as_bytes()).await.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn ownership_files_are_served_as_they_are_also_when_they_are_added_later() {
    let folder = folder();
    let server = serve(&folder).await;
    for name in ["MP_verify_1aB2.txt", "WW_verify_x-_9.txt"] {
        let target = format!("/{name}");
        assert_eq!(request(&server, "GET", &target).await.status, 404, "there is none yet");
        fs::write(folder.path().join("verify").join(name), "1aB2\n").unwrap();
        for target in [target.clone(), format!("{target}?t=1")] {
            let answer = request(&server, "GET", &target).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "1aB2\n"), "{target}");
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        }
        let head = head(&server, &target).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(head.contains("content-length: 5\r\n"), "{head}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = request(&server, method, &target).await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
        }
    }
    // The accounts are where they were.
    assert_eq!(request(&server, "GET", "/mp/shop").await.body, "missing_parameter");
}

#[tokio::test]
async fn nothing_else_of_the_folder_is_served() {
    let (log, _guard) = Log::begin();
    let folder = folder();
    let verify = folder.path().join("verify");
    for name in
        ["index.html", "MP_verify_a.html", "mp_verify_a.txt", "MP_verify_.txt", "secret.txt", "MP_verify_a.b.txt"]
    {
        fs::write(verify.join(name), "secret").unwrap();
    }
    fs::create_dir(verify.join("sub")).unwrap();
    fs::write(verify.join("sub/MP_verify_a.txt"), "secret").unwrap();
    fs::create_dir(verify.join("MP_verify_folder.txt")).unwrap();
    fs::write(verify.join("MP_verify_large.txt"), "secret".repeat(1000)).unwrap();
    fs::write(verify.join("MP_verify_4096.txt"), "a".repeat(4096)).unwrap();
    symlink("/dev/zero", verify.join("MP_verify_device.txt")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(verify.join("MP_verify_pipe.txt")).status().unwrap();
    assert!(pipe.success());
    let server = serve(&folder).await;
    for target in [
        "/",
        "/index.html",
        "/secret.txt",
        "/MP_verify_a.html",
        "/mp_verify_a.txt",
        "/MP_verify_.txt",
        "/MP_verify_a.b.txt",
        "/sub/MP_verify_a.txt",
        "//MP_verify_4096.txt",
        "/MP_verify_4096.txt/",
        "/../MP_verify_outside.txt",
        "/MP_verify_../../MP_verify_outside.txt",
        "/MP_verify_%2e%2e%2f%2e%2e%2fMP_verify_outside.txt",
        "/%4dP_verify_4096.txt",
        "/MP_verify_folder.txt",
        "/MP_verify_large.txt",
        "/MP_verify_device.txt",
        "/MP_verify_pipe.txt",
    ] {
        let answer = request(&server, "GET", target).await;
        assert_eq!(answer.status, 404, "{target}");
        assert!(!answer.body.contains("secret"), "{target}");
        assert!(head(&server, target).await.starts_with("HTTP/1.1 404 "), "{target}");
    }
    assert_eq!(request(&server, "GET", "/MP_verify_4096.txt").await.body.len(), 4096);
    let lines = log.text();
    assert_eq!(lines.matches("[server] files: cannot serve").count(), 1, "{lines}");
    // Without the setting there is none.
    let without = TestServer::start(Hooks::default()).await;
    assert_eq!(request(&without, "GET", "/MP_verify_4096.txt").await.status, 404);
}
