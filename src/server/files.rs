//! Ownership files: consoles ask for `MP_verify_….txt` or `WW_verify_….txt` at the root of a host before they take its
//! domain.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use axum::body::Bytes;
use tokio::{sync::Semaphore, task};
use tracing::warn;

use crate::throttle::Throttle;

/// The largest file that is served. Those of the consoles have some 16 bytes.
const MAX_BYTES: u64 = 4096;

/// How many are read at one time: a file system that hangs holds no more threads than these.
const MAX_READS: usize = 4;

/// How long the part of a name may be that the console chooses.
const MAX_ID: usize = 64;

/// The folder of the ownership files. They are read when they are asked for, so that one can be added while the server
/// runs.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    reads: Semaphore,
    failed: Throttle,
}

impl Files {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, reads: Semaphore::new(MAX_READS), failed: Throttle::default() }
    }

    /// The content of a file; `None` if there is none of this name, or none that is served.
    pub(super) async fn read(&self, name: &str) -> Option<Bytes> {
        let _permit = self.reads.acquire().await.ok()?;
        let path = self.folder.join(name);
        let read = task::spawn_blocking(move || read(&path)).await.ok()?;
        match read {
            Ok(content) => Some(content.into()),
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => None,
            Err(failure) => {
                if let Some(more) = self.failed.allow() {
                    warn!("[server] files: cannot serve {name}: {failure}{more}");
                }
                None
            }
        }
    }
}

/// The name of the ownership file that a path asks for. Nothing else is served, and no name leaves the folder.
pub(super) fn name(path: &str) -> Option<&str> {
    let name = path.strip_prefix('/')?;
    let id = name.strip_prefix("MP_verify_").or_else(|| name.strip_prefix("WW_verify_"))?.strip_suffix(".txt")?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    ((1..=MAX_ID).contains(&id.len()) && id.bytes().all(allowed)).then_some(name)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let invalid = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    // To open a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return invalid("it is not a file");
    }
    let mut content = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return invalid("it is larger than 4 KiB");
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ownership_files_have_a_name() {
        for path in ["/MP_verify_a.txt", "/WW_verify_Ab0-_9.txt", &format!("/MP_verify_{}.txt", "a".repeat(64))] {
            assert_eq!(name(path), path.strip_prefix('/'));
        }
        let long = format!("/MP_verify_{}.txt", "a".repeat(65));
        for path in [
            "",
            "/",
            "MP_verify_a.txt",
            "//MP_verify_a.txt",
            "/MP_verify_.txt",
            "/MP_verify_a.html",
            "/MP_verify_a.txt/",
            "/mp_verify_a.txt",
            "/x/MP_verify_a.txt",
            "/MP_verify_../a.txt",
            "/MP_verify_%2e%2e%2fa.txt",
            "/MP_verify_a%00.txt",
            "/MP_verify_a\\b.txt",
            "/MP_verify_a.b.txt",
            "/XX_verify_a.txt",
            &long,
        ] {
            assert_eq!(name(path), None, "{path}");
        }
    }
}
