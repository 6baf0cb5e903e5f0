//! The house has one direction: each module may use only what stands after it.

use std::fs;
use std::path::{Path, PathBuf};

/// From the door to the cellar. What shares a row may use each other.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["app"],
    &["session"],
    &["live"],
    &["route", "limit", "guard", "passive", "announce"],
    &["net"],
    &["tls"],
    &["observe"],
    &["config"],
    &["book", "client", "ftp"],
];

/// Where bytes and values go in and come out, and nothing else.
const PURE: [&str; 3] = ["ftp", "session/state", "net/proxy_header/parse"];

/// What no pure module speaks of.
const IMPURE: [&str; 6] = [
    "tokio",
    "async ",
    "Instant",
    "SystemTime",
    "std::fs",
    "TcpStream",
];

#[test]
fn imports_run_one_way() {
    let mut against = Vec::new();
    for file in sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let text = fs::read_to_string(&file).expect("a source file");
        let from = module_of(&file);
        if from == "lib" {
            continue;
        }
        for to in used_modules(&from, &text) {
            if floor(&to) < floor(&from) {
                against.push(format!("{} uses {to}", file.display()));
            }
        }
    }
    assert!(against.is_empty(), "against the grain: {against:#?}");
}

#[test]
fn the_protocol_knows_no_sockets_and_no_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in PURE.iter().flat_map(|folder| sources(&root.join(folder))) {
        let text = fs::read_to_string(&file).expect("a source file");
        for word in IMPURE {
            assert!(!text.contains(word), "{} speaks of {word}", file.display());
        }
    }
}

#[test]
fn every_module_begins_with_its_role() {
    for file in sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let text = fs::read_to_string(&file).expect("a source file");
        assert!(text.starts_with("//! "), "{}", file.display());
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    assert!(!found.is_empty(), "no sources in {}", folder.display());
    found
}

/// The top-level module that a file belongs to.
fn module_of(file: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let inside = file.strip_prefix(root).expect("a file of the sources");
    let first = inside.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The top-level modules that a file names: by `crate::…`, and in the program's own file by `portcullis::…`.
fn used_modules(from: &str, text: &str) -> Vec<String> {
    let root = if from == "main" {
        "portcullis::"
    } else {
        "crate::"
    };
    text.split(root)
        .skip(1)
        .map(|path| {
            path.chars()
                .take_while(|letter| letter.is_ascii_lowercase() || *letter == '_')
                .collect::<String>()
        })
        .filter(|name| FLOORS.iter().any(|floor| floor.contains(&name.as_str())))
        .collect()
}

fn floor(module: &str) -> usize {
    FLOORS
        .iter()
        .position(|floor| floor.contains(&module))
        .unwrap_or_else(|| panic!("module {module} has no floor"))
}
