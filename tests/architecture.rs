//! The house: which room uses which, and what no room of a kind may speak of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the door to the cellar: each module, and all modules that its code uses. A new arrow is a new word here, and
/// whoever adds it sees what comes of that; it may only point down. What tests alone use is not in it.
const HOUSE: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "live", "tls", "observe", "config"]),
    (
        "app",
        &[
            "session", "live", "passive", "net", "announce", "limit", "tls", "observe", "config",
            "ftp",
        ],
    ),
    (
        "session",
        &[
            "session::state",
            "live",
            "passive",
            "net",
            "guard",
            "limit",
            "route",
            "tls",
            "observe",
            "config",
            "ftp",
        ],
    ),
    (
        "session::state",
        &["announce", "route", "observe", "config", "ftp"],
    ),
    ("live", &["passive", "announce", "route", "tls", "config"]),
    ("passive", &["net", "tls", "observe"]),
    ("net", &["observe", "config", "ftp"]),
    ("announce", &["config"]),
    ("guard", &["config", "book", "client"]),
    ("limit", &["config", "book", "client"]),
    ("route", &["config"]),
    ("tls", &["config"]),
    ("observe", &["config"]),
    ("config", &[]),
    ("ftp", &[]),
    ("book", &[]),
    ("client", &[]),
];

/// Where bytes and values go in and come out, and nothing else.
const PURE: [&str; 7] = [
    "ftp",
    "session/state",
    "route",
    "passive/turns",
    "net/proxy_header/parse",
    "tls/hello.rs",
    "tls/habits.rs",
];

/// What is built once and then read. It opens files at most.
const POLICY: [&str; 4] = ["config", "route", "live.rs", "tls"];

/// What remembers how many and how often. It is told the time.
const COUNTS: [&str; 4] = ["limit", "guard", "book.rs", "client.rs"];

/// What no pure module speaks of.
const IMPURE: [&str; 6] = [
    "tokio",
    "async ",
    "Instant",
    "SystemTime",
    "std::fs",
    "TcpStream",
];

/// What neither policies nor counts speak of.
const INPUT_AND_OUTPUT: [&str; 6] = [
    "tokio",
    "async ",
    "Instant::now",
    "SystemTime::now",
    "TcpStream",
    "TcpListener",
];

#[test]
fn imports_run_one_way() {
    for (place, (module, uses)) in HOUSE.iter().enumerate() {
        for used in *uses {
            let below = HOUSE.iter().skip(place + 1).any(|(name, _)| name == used);
            assert!(below, "{module} uses {used}, which does not stand below it");
        }
    }
}

#[test]
fn modules_use_what_the_house_has_them_use_and_nothing_else() {
    for (module, uses) in HOUSE {
        let files = sources(&root()).into_iter();
        let own = files.filter(|file| module_of(file) == *module);
        let used: BTreeSet<&str> = own
            .flat_map(|file| used_modules(module, &code(&file)))
            .collect();
        assert_eq!(used, uses.iter().copied().collect(), "{module}");
    }
}

#[test]
fn every_module_has_a_place_in_the_house() {
    for file in sources(&root()) {
        let module = module_of(&file);
        let has_one = module == "lib" || HOUSE.iter().any(|(name, _)| *name == module);
        assert!(has_one, "{} is in no room", file.display());
    }
}

#[test]
fn the_protocol_knows_no_sockets_and_no_clock() {
    refuse(&PURE, &IMPURE);
}

#[test]
fn policies_and_counts_open_no_sockets_and_ask_no_clock() {
    refuse(&POLICY, &INPUT_AND_OUTPUT);
    refuse(&COUNTS, &INPUT_AND_OUTPUT);
}

#[test]
fn every_module_begins_with_its_role() {
    for file in sources(&root()) {
        let text = fs::read_to_string(&file).expect("a source file");
        assert!(text.starts_with("//! "), "{}", file.display());
    }
}

#[track_caller]
fn refuse(places: &[&str], words: &[&str]) {
    for file in places.iter().flat_map(|place| sources(&root().join(place))) {
        let code = code(&file);
        for word in words {
            assert!(!code.contains(word), "{} speaks of {word}", file.display());
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The sources in a folder, or the one file.
fn sources(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(place).expect("a folder of sources") {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(sources(&path));
        }
    }
    assert!(!found.is_empty(), "no sources in {}", place.display());
    found
}

/// What is not test, and not comment.
fn code(file: &Path) -> String {
    let for_tests = ["tests", "fixtures"];
    let mut parts = file.iter().map(|part| part.to_string_lossy());
    if parts.any(|part| for_tests.contains(&part.trim_end_matches(".rs"))) {
        return String::new();
    }
    let text = fs::read_to_string(file).expect("a source file");
    let (code, _) = text
        .split_once("#[cfg(test)]\nmod tests {")
        .unwrap_or((&text, ""));
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The module that a file belongs to: the folder or file below the root, but for the state machine, which is a room of
/// its own.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(root()).expect("a file of the sources");
    if inside.starts_with("session/state") {
        return "session::state".to_owned();
    }
    let first = inside.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that code of `from` names.
fn used_modules(from: &str, code: &str) -> Vec<&'static str> {
    let root = match from {
        "main" => "portcullis::",
        _ => "crate::",
    };
    let by_root = code.split(root).skip(1).filter_map(|path| {
        let name = path.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
        let name = name.into_iter().next()?;
        HOUSE
            .iter()
            .map(|(module, _)| *module)
            .find(|module| *module == name)
    });
    let by_parent = (from == "session" && code.contains("state::")).then_some("session::state");
    by_root
        .chain(by_parent)
        .filter(|used| *used != from)
        .collect()
}
