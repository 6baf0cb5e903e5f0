//! The command line by itself: what it says to a newcomer, and the commands that neither serve nor check.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::{Command, Output, Stdio};

use testkit::closed_port::ClosedPort;
use testkit::front::Front;
use testkit::proxy::Signal;

use crate::program::{self, Before};

fn portcullis(arguments: &[&str]) -> Output {
    program::command()
        .args(arguments)
        .output()
        .expect("cargo built it")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// What it prints; it has to succeed.
fn printed(arguments: &[&str]) -> String {
    let output = portcullis(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    text(&output.stdout)
}

/// Those that the help lists, of the program or of one of its commands.
fn commands(of: &[&str]) -> Vec<String> {
    let help = printed(&[of, &["--help"]].concat());
    let (_, commands) = help.split_once("Commands:\n").unwrap_or_default();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let commands = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = commands.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn without_a_command_it_says_what_to_do_first() {
    let output = portcullis(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    let said = text(&output.stderr);
    let named = [
        "config/minimal.yaml",
        "portcullis check --config",
        "portcullis run --config",
    ];
    let places = named.map(|words| said.find(words).unwrap_or_else(|| panic!("{said}")));
    assert!(places.is_sorted(), "{said}");
    assert!(said.lines().count() <= 15, "{said}");
    assert!(fs::exists("config/minimal.yaml").expect("a look"));
}

#[test]
fn every_command_has_examples_that_it_understands() {
    let mut commands = commands(&[]);
    assert!(commands.iter().any(|command| command == "health"));
    for hidden in ["completions", "man"] {
        assert!(!commands.iter().any(|command| command == hidden));
        commands.push(hidden.to_owned());
    }
    for command in &commands {
        let help = printed(&[command, "--help"]);
        let (_, examples) = help
            .split_once("Examples:\n")
            .unwrap_or_else(|| panic!("{help}"));
        let own = format!("portcullis {command}");
        let example = examples.lines().find(|line| line.contains(&own));
        let example = example.unwrap_or_else(|| panic!("{help}"));
        // As a shell takes it, with every file missing: an option that doesn't exist would be a fault of usage.
        for option in example
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
        {
            assert!(help.contains(&format!("{option} ")) || help.contains(&format!("{option}\n")));
        }
    }
}

#[test]
fn the_schema_is_printed_as_it_is_in_the_repository() {
    let schema = fs::read_to_string("config/schema.json").expect("it is there");
    assert_eq!(printed(&["schema"]), schema);
}

#[test]
fn output_that_cannot_be_written_is_told() {
    let full = File::options().write(true).open("/dev/full");
    let output = program::command()
        .arg("schema")
        .stdout(full.expect("Linux has it"))
        .stderr(Stdio::piped())
        .output()
        .expect("cargo built it");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("portcullis: stdout: No space left"));
}

#[test]
fn a_shell_understands_its_completions() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = directory.path().join("portcullis");
    fs::write(&script, printed(&["completions", "bash"])).expect("written");
    let completes = "
        source \"$1\"
        COMP_WORDS=(portcullis he) COMP_CWORD=1
        _portcullis portcullis he portcullis
        echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["-euc", completes, "bash"])
        .arg(&script)
        .output()
        .expect("bash runs");
    let words = text(&output.stdout);
    let words: BTreeSet<&str> = words.split_whitespace().collect();
    assert_eq!(words, BTreeSet::from(["health", "help"]), "{output:?}");

    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(printed(&["completions", shell]).contains("health"));
    }
    assert_eq!(portcullis(&["completions", "ksh"]).status.code(), Some(2));
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pages = directory.path().join("man1");
    printed(&["man", pages.to_str().expect("text")]);
    let found: BTreeSet<String> = fs::read_dir(&pages)
        .expect("it was made")
        .map(|entry| entry.expect("one").file_name())
        .map(|name| name.into_string().expect("text"))
        .collect();
    let mut expected = BTreeSet::from(["portcullis.1".to_owned()]);
    for command in commands(&[]) {
        let below = commands(&[&command]).into_iter();
        expected.extend(below.map(|below| format!("portcullis-{command}-{below}.1")));
        expected.insert(format!("portcullis-{command}.1"));
    }
    assert_eq!(found, expected);
    for page in found {
        let page = fs::read_to_string(pages.join(page)).expect("it is there");
        assert!(page.contains("\n.TH portcullis"), "{page}");
        assert!(page.contains("Examples:"), "{page}");
    }
    let file = directory.path().join("file");
    fs::write(&file, "").expect("written");
    let output = portcullis(&["man", file.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn health_is_that_of_the_process_and_readiness_that_of_its_listeners() {
    let front = Front::new(&[]);
    let backend = ClosedPort::refusing();
    let proxy = front.before_with(backend.address(), |config| {
        config.timeout("lame_duck", "1h")
    });
    let address = proxy.admin().to_string();
    let health = |more: &[&str]| {
        let arguments = [&["health", "--address", &address], more].concat();
        let output = portcullis(&arguments);
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code(), said)
    };
    let healthy = (Some(0), "healthy\n".to_owned());
    assert_eq!(health(&[]), healthy);
    assert_eq!(health(&["--ready"]), (Some(0), "ready\n".to_owned()));

    proxy.signal(Signal::Terminate);
    proxy.wait_for_log(|line| line.message().starts_with("shutdown requested: not ready"));
    assert_eq!(health(&[]), healthy);
    let draining = format!("portcullis: {address} answers 503 to /readyz: draining\n");
    assert_eq!(health(&["--ready"]), (Some(1), draining));
}

#[test]
fn health_says_what_else_there_may_be() {
    let nobody = ClosedPort::refusing();
    let address = nobody.address().to_string();
    let output = portcullis(&["health", "--address", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--address"), "{output:?}");
    let output = portcullis(&["health", "--address", "localhost"]);
    assert_eq!(output.status.code(), Some(2));
}
