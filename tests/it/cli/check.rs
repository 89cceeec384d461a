//! `check` finds what would stop `serve`, and nothing else: both are run.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use tempfile::TempDir;

use super::{Said, command, ended, write};
use crate::support::program::Program;

/// A user without rights, as in the container image.
const NOBODY: u32 = 65532;

const FREE: &str = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
const ACCOUNT: &str = "[mp.shop]\napp_id = \"wx1\"\ntoken = \"abcToken\"\nmode = \"plain\"\n";

fn config(journal: &Path) -> String {
    format!("{FREE}[journal]\nurl = \"sqlite://{}\"\n{ACCOUNT}", journal.display())
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Everything below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        found.push(entry.path().display().to_string());
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        }
    }
    found.sort();
    found
}

/// Both commands as somebody; `serve` only where it is to stop at once.
async fn both(folder: &Path, user: Option<(&Path, u32)>, is_stopped: bool, parts: &[&str]) {
    let run = async |arguments: &[&str]| -> Said {
        let mut command = command(folder, arguments);
        if let Some((program, user)) = user {
            let mut other = Command::new(program);
            other.args(arguments).env_clear().env("ECHOSTR_CONFIG", folder.join("echostr.toml"));
            other.uid(user).gid(user).current_dir(folder);
            command = other;
        }
        ended(command).await
    };
    let before = files(folder);
    run(&["check", "--handlers"]).await.with(i32::from(is_stopped), parts);
    assert_eq!(files(folder), before, "nothing is left behind");
    if is_stopped {
        run(&["serve"]).await.with(1, &[]);
    }
}

fn is_root() -> bool {
    String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0"
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_not_do_is_found_by_trying() {
    if !is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let place = TempDir::new().unwrap();
    mode(place.path(), 0o755);
    let program = place.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_echostr"), &program).unwrap();
    mode(&program, 0o755);
    let folder = |name: &str| {
        let folder = place.path().join(name);
        fs::create_dir(&folder).unwrap();
        folder
    };
    let give = |path: &Path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    let user = Some((&*program, NOBODY));

    let of_root = folder("of_root");
    write(&of_root, &config(&of_root.join("journal.db")));
    both(&of_root, user, true, &["[journal]", "Permission denied"]).await;
    write(&of_root, &config(&of_root.join("a/b/journal.db")));
    both(&of_root, user, true, &["cannot create the directory", "Permission denied"]).await;

    let own = folder("own");
    give(&own);
    write(&own, &config(&own.join("journal.db")));
    both(&own, user, false, &["no problem"]).await;
    write(&own, &config(&own.join("a/b/journal.db")));
    both(&own, user, false, &["no problem"]).await;

    // What root has made in a folder of the user's.
    for (end, text) in [("", "cannot be written to"), (".lock", "cannot be written to")] {
        let own = folder(&format!("made{end}"));
        write(&own, &config(&own.join("journal.db")));
        let made = own.join(format!("journal.db{end}"));
        fs::write(&made, "").unwrap();
        mode(&made, 0o644);
        if end == ".lock" {
            fs::write(own.join("journal.db"), "").unwrap();
            give(&own.join("journal.db"));
        }
        give(&own);
        both(&own, user, true, &["[journal]", text, "Permission denied"]).await;
    }

    let secret = own.join("token");
    fs::write(&secret, "abcToken").unwrap();
    mode(&secret, 0o600);
    let text = config(&own.join("journal.db"));
    write(&own, &text.replace("\"abcToken\"", &format!("{{ file = \"{}\" }}", secret.display())));
    both(&own, user, true, &["[mp.shop] `token` cannot be read", "permission denied"]).await;
    let first: u32 =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap().trim().parse().unwrap();
    if first > 80 {
        write(&own, &text.replacen("127.0.0.1:0", "127.0.0.1:79", 1));
        both(&own, user, true, &["cannot listen on 127.0.0.1:79 ([server] listen)", "CAP_NET_BIND_SERVICE"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_stop_a_server_is_found_before_it_starts() {
    let place = TempDir::new().unwrap();
    let journal = place.path().join("journal.db");
    let text = config(&journal);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    fs::write(place.path().join("a_file"), "").unwrap();
    for (text, parts) in [
        (
            text.replacen("127.0.0.1:0", &taken, 1),
            &[&*format!("cannot listen on {taken} ([server] listen)"), "another program"][..],
        ),
        (
            text.replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{taken}\"")),
            &["([admin] listen)"],
        ),
        (
            text.replacen("127.0.0.1:0", "203.0.113.1:8080", 1),
            &["cannot listen on 203.0.113.1:8080", "no address of this machine"],
        ),
        (text.replace("journal.db", "a_file/journal.db"), &["[journal]"]),
        (text.replace("journal.db", ""), &["[journal]"]),
        (format!("{text}[observers.nobody]\nmax_attempts = 1\n"), &["nobody"]),
        (
            format!(
                "{text}[[answer]]\nname = \"a\"\nmatch = \"mp/shop\"\ntext = \"x\"\n[[answer]]\nname = \"b\"\nmatch = \"mp/shop\"\ntext = \"y\"\n"
            ),
            &["only one can"],
        ),
    ] {
        write(place.path(), &text);
        both(place.path(), None, true, parts).await;
    }
    write(place.path(), &text);
    let mut wrong = command(place.path(), &["check"]);
    wrong.env("RUST_LOG", "echostr=verbose=2");
    ended(wrong).await.with(1, &["RUST_LOG"]);
    both(place.path(), None, false, &["no problem", "mp/shop: callbacks at /mp/shop"]).await;
    // A database that does not answer does not stop a server.
    write(place.path(), &format!("{FREE}[journal]\nurl = \"postgres://u:hunter2@127.0.0.1:1/d\"\n{ACCOUNT}"));
    let said = ended(command(place.path(), &["check"])).await;
    let said = said.with(0, &["warning: [journal]", "a server starts all the same", "no problem"]);
    assert!(!said.text().contains("hunter2"));
    ended(command(place.path(), &["check", "--online"])).await.with(1, &["[journal]"]);
    write(
        place.path(),
        &format!(
            "{FREE}[journal]\nurl = \"postgres://u@127.0.0.1:1/d?sslrootcert=/no/such/file&sslmode=verify-full\"\n{ACCOUNT}"
        ),
    );
    both(place.path(), None, true, &["[journal]", "/no/such/file"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_that_runs_is_no_problem_and_another_one_is() {
    let (place, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let text = config(&place.path().join("journal.db"));
    write(place.path(), &text);
    let server = Program::serve(&place.path().join("echostr.toml"));
    let [callbacks, admin] = server.addresses().await.map(|address| address.to_string());
    let text = text.replacen("127.0.0.1:0", &callbacks, 1).replacen("127.0.0.1:0", &admin, 1);
    write(place.path(), &text);
    let said = ended(command(place.path(), &["check"])).await;
    said.with(
        0,
        &[
            "warning: [journal] an echostr runs",
            &format!("it listens on {callbacks}"),
            &format!("it listens on {admin}"),
            "no problem",
        ],
    );
    // Its addresses with another journal: it is not that server that would be replaced.
    let other = text.replace(&place.path().display().to_string(), &elsewhere.path().display().to_string());
    write(elsewhere.path(), &other);
    both(
        elsewhere.path(),
        None,
        true,
        &[&format!("cannot listen on {callbacks}"), &format!("cannot listen on {admin}")],
    )
    .await;
    assert!(server.stop().await);
    ended(command(place.path(), &["check"])).await.with(0, &["no problem"]);
}
