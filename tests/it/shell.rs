//! Completions and manual pages.

use std::{
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

fn echostr(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_echostr")).args(arguments).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = echostr(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What bash suggests for a line that is being written.
fn completed(script: &str, words: &[&str]) -> Vec<String> {
    let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let last = words.len() - 1;
    let ask = format!(
        "{script}\nCOMP_WORDS=({})\nCOMP_CWORD={last}\n_echostr echostr \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{}]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        words.join(" "),
        last - 1
    );
    let mut bash = Command::new("bash").arg("--norc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(ask.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_options() {
    let script = printed(&["completions", "bash"]);
    assert_eq!(completed(&script, &["echostr", "simu"]), ["simulate"]);
    assert_eq!(completed(&script, &["echostr", "journal", "ch"]), ["check"]);
    assert_eq!(completed(&script, &["echostr", "backup", "--fo"]), ["--force"]);
    let commands = completed(&script, &["echostr", ""]);
    for command in ["serve", "check", "backup", "restore", "events", "completions", "man"] {
        assert!(commands.iter().any(|known| known == command), "{command}: {commands:?}");
    }
}

#[test]
fn other_shells_have_completions_and_unknown_ones_are_refused() {
    for (shell, mark) in [("zsh", "#compdef echostr"), ("fish", "complete -c echostr")] {
        assert!(printed(&["completions", shell]).contains(mark), "{shell}");
    }
    let refused = echostr(&["completions", "cmd"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("[possible values: bash"));
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let page = printed(&["man"]);
    for part in [".TH", "echostr", "simulate", "backup"] {
        assert!(page.contains(part), "{part}");
    }
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    printed(&["man", "--folder", &pages.display().to_string()]);
    let backup = fs::read_to_string(pages.join("echostr-backup.1")).unwrap();
    assert!(backup.contains("servers may run"), "{backup}");
    for entry in fs::read_dir(&pages).unwrap() {
        let path = entry.unwrap().path();
        // Where groff is installed: what it warns of is shown to nobody otherwise.
        let Ok(groff) = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&path).output() else { return };
        let said = String::from_utf8_lossy(&groff.stderr);
        assert!(groff.status.success() && said.is_empty(), "{}: {said}", path.display());
    }
}
