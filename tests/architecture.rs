//! The layers: which module uses which, and what a module of each kind may not use.

use std::collections::BTreeSet;
use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use proc_macro2::{Ident, Spacing, TokenStream, TokenTree};

/// Top-down: each module, and all modules that its code uses. A new dependency has to be added here, where its
/// consequences show; it may only point down. Uses by tests are not listed.
const LAYERS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "check", "explain", "app", "probe", "import", "health", "control", "observe", "config",
            "base",
        ],
    ),
    (
        "check",
        &[
            "app", "acme", "backend", "tls", "observe", "config", "policy", "base",
        ],
    ),
    (
        "explain",
        &[
            "app",
            "session::machine",
            "snapshot",
            "backend",
            "announce",
            "route",
            "tls",
            "ftp",
            "config",
            "policy",
            "base",
        ],
    ),
    (
        "app",
        &[
            "admin", "acme", "session", "snapshot", "backend", "passive", "net", "announce",
            "limit", "tls", "observe", "outcome", "config", "policy", "base", "ftp", "command",
        ],
    ),
    (
        "probe",
        &["backend", "net", "tls", "ftp", "outcome", "config", "base"],
    ),
    ("import", &["tls", "config", "policy", "base"]),
    ("health", &["base"]),
    ("control", &["tls", "base"]),
    (
        "admin",
        &[
            "view", "acme", "session", "snapshot", "backend", "net", "tls", "observe", "config",
            "base", "command",
        ],
    ),
    (
        "view",
        &[
            "acme", "session", "backend", "guard", "tls", "observe", "outcome", "config", "base",
        ],
    ),
    (
        "acme",
        &["net", "tls", "observe", "outcome", "config", "base"],
    ),
    (
        "session",
        &[
            "session::machine",
            "snapshot",
            "backend",
            "passive",
            "net",
            "guard",
            "limit",
            "route",
            "tls",
            "observe",
            "ftp",
            "outcome",
            "config",
            "policy",
            "base",
        ],
    ),
    (
        "session::machine",
        &[
            "announce", "route", "ftp", "outcome", "config", "policy", "base",
        ],
    ),
    (
        "snapshot",
        &[
            "backend", "passive", "announce", "route", "tls", "config", "policy",
        ],
    ),
    (
        "backend",
        &[
            "net", "limit", "tls", "observe", "ftp", "outcome", "config", "base",
        ],
    ),
    ("passive", &["net", "tls", "observe", "base"]),
    ("net", &["ftp", "outcome", "config", "base"]),
    ("announce", &["config"]),
    ("guard", &["config", "base"]),
    ("limit", &["outcome", "config", "policy", "base"]),
    ("route", &["config", "policy", "base"]),
    ("tls", &["outcome", "config", "policy", "base"]),
    ("observe", &["outcome", "config", "policy", "base"]),
    ("ftp", &["outcome", "config", "base"]),
    ("outcome", &["config"]),
    ("config", &["policy", "base"]),
    ("policy", &["base"]),
    ("base", &[]),
    ("command", &[]),
];

/// Pure: bytes and values in, bytes and values out.
const PURE: [&str; 23] = [
    "admin/page",
    "view/attention",
    "view/units.rs",
    "ftp",
    "outcome.rs",
    "base/text.rs",
    "import/iis",
    "policy/client_certificate.rs",
    "policy/clients.rs",
    "policy/commands.rs",
    "policy/notice.rs",
    "policy/rates.rs",
    "session/machine",
    "route",
    "observe/transfer_log/format",
    "observe/transfer_log/record.rs",
    "net/proxy_header/parse",
    "net/proxy_header/write",
    "backend/balance.rs",
    "tls/client_cache.rs",
    "tls/client_hello.rs",
    "tls/hello_rewrite",
    "tls/resumption_profile.rs",
];

/// Built once and then only read. May open files.
const POLICY: [&str; 5] = ["config", "policy", "route", "snapshot.rs", "tls"];

/// Counters. The time is passed in.
const COUNTERS: [&str; 15] = [
    "acme/schedule",
    "limit",
    "guard",
    "backend/backend_state.rs",
    "backend/check_state.rs",
    "backend/checked.rs",
    "backend/health.rs",
    "backend/registry.rs",
    "backend/site_backend_state.rs",
    "backend/site_state.rs",
    "backend/waiting_heads.rs",
    "passive/lease_table",
    "base/bucket.rs",
    "base/expiring.rs",
    "base/client_key.rs",
];

/// What no pure module may use.
const IMPURE: [&str; 6] = [
    "tokio",
    "async ",
    "Instant",
    "SystemTime",
    "std::fs",
    "TcpStream",
];

/// What neither policies nor counters may use.
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
    for (place, (module, uses)) in LAYERS.iter().enumerate() {
        for used in *uses {
            let below = LAYERS.iter().skip(place + 1).any(|(name, _)| name == used);
            assert!(below, "{module} uses {used}, which is not below it");
        }
    }
}

#[test]
fn modules_use_what_their_layer_allows_and_nothing_else() {
    for (module, uses) in LAYERS {
        let files = sources(&root()).into_iter();
        let own = files.filter(|file| module_of(file) == *module);
        let used: BTreeSet<&str> = own
            .flat_map(|file| used_layers(&path_of(&file), &code(&file)))
            .collect();
        assert_eq!(used, uses.iter().copied().collect(), "{module}");
    }
}

#[test]
fn a_module_is_found_by_whatever_way_leads_to_it() {
    for (file, code, used) in [
        ("main.rs", "fn main() { portcullis::cli::run() }", "cli"),
        ("snapshot.rs", "use super::app;", "app"),
        (
            "passive/dispatcher.rs",
            "use super::super::tls::Whose;",
            "tls",
        ),
        (
            "ftp/line.rs",
            "let site = parse::<crate::config::Site>(line);",
            "config",
        ),
        (
            "tls/mod.rs",
            "use crate::{app::{self, App}, session as tls, net::*,};",
            "app net session",
        ),
        ("session/mod.rs", "use machine::Event;", "session::machine"),
        (
            "session/transfer/client_leg.rs",
            "use crate::session::machine::Event;",
            "session::machine",
        ),
        (
            "session/transfer/client_leg.rs",
            "use super::super::{dial, machine::Event};",
            "session::machine",
        ),
        (
            "session/machine/mod.rs",
            "use super::info::SessionInfo;",
            "session",
        ),
        (
            "session/machine/login.rs",
            "fn of(shared: super::super::Shared) {}",
            "session",
        ),
        (
            "session/machine/login.rs",
            "use super::{Action, State};",
            "",
        ),
        (
            "observe/mod.rs",
            r#"const HELP: &str = "say \"crate::tls=debug\""; use crate::net::stream;"#,
            "net",
        ),
    ] {
        let used = used.split_whitespace().collect();
        let found = used_layers(&path_of(&root().join(file)), code);
        assert_eq!(found, used, "{file}: {code}");
    }
}

#[test]
fn every_module_belongs_to_a_layer() {
    for file in sources(&root()) {
        let module = module_of(&file);
        let has_one = module == "lib" || LAYERS.iter().any(|(name, _)| *name == module);
        assert!(has_one, "{} is in no layer", file.display());
    }
}

#[test]
fn the_protocol_knows_no_sockets_and_no_clock() {
    refuse(&PURE, &IMPURE);
}

#[test]
fn policies_and_counts_open_no_sockets_and_ask_no_clock() {
    refuse(&POLICY, &INPUT_AND_OUTPUT);
    refuse(&COUNTERS, &INPUT_AND_OUTPUT);
}

/// The variables of a service manager (NOTIFY_SOCKET, WATCHDOG_USEC) are for this process, which can't take them out of its own
/// environment without unsafe code.
#[test]
fn programs_that_are_started_get_an_environment_of_their_own() {
    for file in sources(&root()) {
        let code = code(&file);
        let imports_one = |line: &str| line.contains("process::") && line.contains("Command");
        if code.lines().any(imports_one) {
            assert!(code.contains(".env_clear()"), "{}", file.display());
        }
    }
}

/// rustfmt leaves comments as they are.
#[test]
fn no_comment_is_wider_than_a_window() {
    for file in sources(&root()) {
        let text = fs::read_to_string(&file).expect("a source");
        let is_comment = |line: &&str| line.trim_start().starts_with("//");
        for line in text.lines().filter(is_comment) {
            let is_narrow = line.chars().count() <= 132;
            assert!(is_narrow, "{}: {line}", file.display());
        }
    }
}

/// A file's name may hold what acts on a terminal, which `Path::display` shows as it is.
#[test]
fn paths_are_shown_without_what_acts_on_a_terminal() {
    for file in sources(&root()) {
        assert!(!code(&file).contains(".display()"), "{}", file.display());
    }
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

/// The module that a file belongs to: the folder or file below the root, but for the state machine, which is a layer of
/// its own.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(root()).expect("a file of the sources");
    if inside.starts_with("session/machine") {
        return "session::machine".to_owned();
    }
    let first = inside.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Where a file's module stands, from the root of the crate.
fn path_of(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(root()).expect("a file of the sources");
    let inside = inside.with_extension("");
    let names = inside
        .iter()
        .map(|name| name.to_string_lossy().into_owned());
    names
        .filter(|name| !["mod", "lib", "main"].contains(&name.as_str()))
        .collect()
}

/// The layer that a path from the root leads to; of two, one inside the other, the inner one.
fn layer_of(path: &[String]) -> Option<&'static str> {
    LAYERS
        .iter()
        .map(|(layer, _)| *layer)
        .filter(|layer| {
            let mut names = path.iter();
            layer
                .split("::")
                .all(|name| names.next().is_some_and(|next| next == name))
        })
        .max_by_key(|layer| layer.len())
}

/// The layers that code of the module `here` names, but for its own.
fn used_layers(here: &[String], code: &str) -> BTreeSet<&'static str> {
    let tokens = code.parse().expect("it compiles, so it is Rust");
    let mut paths = Vec::new();
    collect(tokens, here, None, &mut paths);
    let own = layer_of(here);
    let layers = paths.iter().filter_map(|path| layer_of(path));
    layers.filter(|layer| Some(*layer) != own).collect()
}

/// Adds every path of more than one name, from the root of the crate. `start` is what stands before the braces that the
/// tokens are in, if a path leads into them.
fn collect(
    tokens: TokenStream,
    here: &[String],
    start: Option<&[String]>,
    paths: &mut Vec<Vec<String>>,
) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            // What a name is changed to leads nowhere.
            TokenTree::Ident(name) if name == "as" && start.is_some() => drop(tokens.next()),
            TokenTree::Ident(name) => {
                let mut path = step(start.unwrap_or(here), &name);
                let mut is_path = start.is_some();
                while takes_colons(&mut tokens) {
                    is_path = true;
                    match tokens.next() {
                        Some(TokenTree::Ident(name)) => path = step(&path, &name),
                        Some(TokenTree::Group(inside)) => {
                            collect(inside.stream(), here, Some(&path), paths);
                            is_path = false;
                        }
                        // A star, or the type arguments of a call.
                        _ => {}
                    }
                }
                if is_path {
                    paths.push(path);
                }
            }
            TokenTree::Group(inside) => collect(inside.stream(), here, None, paths),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Takes `::` if it is next.
fn takes_colons(tokens: &mut Peekable<impl Iterator<Item = TokenTree>>) -> bool {
    let first = tokens.next_if(|token| {
        matches!(token, TokenTree::Punct(colon)
            if colon.as_char() == ':' && colon.spacing() == Spacing::Joint)
    });
    first.is_some() && tokens.next().is_some()
}

fn step(path: &[String], name: &Ident) -> Vec<String> {
    let name = name.to_string();
    match name.as_str() {
        // The crate as `main` calls it.
        "crate" | "portcullis" => Vec::new(),
        "super" => path[..path.len().saturating_sub(1)].to_vec(),
        "self" => path.to_vec(),
        _ => [path, &[name]].concat(),
    }
}
