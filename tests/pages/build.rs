//! Writes each block of Rust of the pages to a file of its own, and a module that has them all.

use std::{env, fmt::Write as _, fs, path::Path};

/// The pages, from the root of the repository.
const PAGES: [&str; 8] = [
    "README.md",
    "README.zh-CN.md",
    "docs/handlers.md",
    "docs/handlers.zh-CN.md",
    "docs/openplatform.md",
    "docs/wecom_bot.md",
    "docs/wecom_bot.zh-CN.md",
    "docs/wecom_kf.md",
];

fn main() {
    let out = env::var("OUT_DIR").expect("cargo names it");
    let out = Path::new(&out);
    let (mut modules, mut hooks, mut set_ups) = (String::new(), String::new(), String::new());
    for page in PAGES {
        println!("cargo::rerun-if-changed=../../{page}");
        let text = fs::read_to_string(Path::new("../..").join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        let name: String = page.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        let _ = writeln!(modules, "pub mod {name} {{");
        for (at, (file, code)) in blocks(page, &text).iter().enumerate() {
            // Files of one folder name each other; a program stands alone.
            let is_handler = file.starts_with("src/handlers/");
            let path = out.join(&name).join(if is_handler { String::new() } else { at.to_string() }).join(file);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be created");
            fs::write(&path, code).expect("it can be written");
            let module = format!("block_{at}");
            let _ = writeln!(modules, "    #[path = {path:?}]\n    pub mod {module};");
            if code.contains("pub fn hooks() -> Hooks") {
                let _ = writeln!(hooks, "    (\"{page}: {file}\", {name}::{module}::hooks),");
            } else if code.contains("pub async fn hooks(") {
                let _ =
                    writeln!(set_ups, "    (\"{page}: {file}\", |config| Box::pin({name}::{module}::hooks(config))),");
            } else {
                assert!(!is_handler, "{page}: {file} has no `pub fn hooks`, so that nobody can register what is in it");
            }
        }
        modules.push_str("}\n");
    }
    let text = format!(
        "{modules}\n/// The hooks of each file of handlers.\npub const HOOKS: &[(&str, fn() -> Hooks)] = &[\n{hooks}];\n\n\
         /// Those that are set up.\npub const SET_UPS: &[(&str, SetUp)] = &[\n{set_ups}];\n"
    );
    fs::write(out.join("pages.rs"), text).expect("it can be written");
}

/// The blocks of Rust of a page: the file that the first line names, and what is in it.
fn blocks(page: &str, text: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(rest) = line.trim_start().strip_prefix("```rust") else { continue };
        assert!(
            rest.is_empty() && line.starts_with('`'),
            "{page}: `{line}`: a block is a whole file, and compiled as one"
        );
        let code: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let file = code.first().and_then(|first| first.strip_prefix("// ")).filter(|file| file.ends_with(".rs"));
        let file = file
            .unwrap_or_else(|| panic!("{page}: a block of Rust does not name its file in its first line: {code:?}"));
        let is_taken = |known: &(String, String)| known.0 == file && file.starts_with("src/handlers/");
        assert!(!blocks.iter().any(is_taken), "{page}: two blocks are {file}");
        blocks.push((file.to_owned(), code.join("\n") + "\n"));
    }
    assert!(!blocks.is_empty(), "{page} has no code");
    blocks
}
