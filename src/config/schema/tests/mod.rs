//! Makes the schema, and judges files by it: it has to refuse none that the program takes, and to see what an editor can.

mod values;

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};

use super::SCHEMA;
use crate::config::{self, file};

/// Set to anything, it has the schema written instead of compared.
const UPDATE: &str = "UPDATE_SCHEMA";

/// How messages of the reader begin to tell of a mistake that a schema sees: a key, a type, a word, a form.
const STRUCTURAL: [&str; 8] = [
    "unknown key",
    "is missing",
    "expected ",
    "isn't possible here",
    "has no unit",
    "isn't a duration",
    "isn't a whole number",
    "isn't a port",
];

fn in_repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The YAML files in a folder.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(in_repository(folder)).expect("a folder of the repository");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("one").path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    files
}

/// Draft 7 is what the language servers for YAML know best.
fn generate() -> String {
    let mut settings = SchemaSettings::draft07();
    settings
        .transforms
        .push(Box::new(RecursiveTransform(refuse_null)));
    settings
        .transforms
        .push(Box::new(RecursiveTransform(let_text_be_a_number)));
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<file::File>();
    schema.insert("title".to_owned(), "A configuration of Portcullis".into());
    let text = serde_json::to_string_pretty(&schema).expect("it is JSON");
    text + "\n"
}

/// The program reads a name from its text, so one of digits needs no quotes.
fn let_text_be_a_number(schema: &mut Schema) {
    if schema.get("pattern").is_some() {
        return;
    }
    match schema.get_mut("type") {
        Some(kind) if *kind == json!("string") => *kind = json!(["string", "number"]),
        _ => {}
    }
}

/// A key without a value is refused, where serde would take it as left out.
fn refuse_null(schema: &mut Schema) {
    let null = json!("null");
    if let Some(Value::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| *kind != null);
        if let [only] = &kinds[..] {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&null));
        if let [Value::Object(only)] = &choices[..] {
            let only = only.clone();
            schema.remove("anyOf");
            for (key, value) in only {
                schema.insert(key, value);
            }
        }
    }
}

fn validator() -> Validator {
    let schema = serde_json::from_str(SCHEMA).expect("it is JSON");
    jsonschema::draft7::new(&schema).expect("it is a schema")
}

/// The first thing that the schema has against this.
fn complaint(validator: &Validator, yaml: &Value) -> Option<String> {
    let mut errors = validator.iter_errors(yaml);
    errors
        .next()
        .map(|error| format!("{}: {error}", error.instance_path()))
}

#[test]
fn the_schema_is_that_of_the_types() {
    let path = in_repository("config/schema.json");
    let made = generate();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, made).expect("written");
        return;
    }
    assert!(
        made == SCHEMA,
        "{} is not what the types say: `make schema` writes it anew",
        path.display()
    );
}

#[test]
fn the_schema_takes_every_example_and_each_names_it() {
    let mut examples = files("config");
    examples.push(in_repository("deploy/compose/portcullis.yaml"));
    examples.push(in_repository("deploy/haproxy/portcullis.yaml"));
    examples.push(in_repository("deploy/kubernetes/portcullis.yaml"));
    assert!(examples.len() >= 7);
    let schema = in_repository("config/schema.json");
    let schema = schema.canonicalize().expect("it is there");
    let validator = validator();
    for path in examples {
        let text = fs::read_to_string(&path).expect("a file of the repository");
        let yaml = serde_yaml::from_str(&text).expect("it is YAML");
        if let Some(complaint) = complaint(&validator, &yaml) {
            panic!("{}: {complaint}", path.display());
        }
        let first = text.lines().next().expect("a line");
        let named = first
            .strip_prefix("# yaml-language-server: $schema=")
            .unwrap_or_else(|| panic!("{} names no schema", path.display()));
        let named = path.parent().expect("a folder").join(named);
        assert_eq!(named.canonicalize().expect("it is there"), schema);
    }
}

/// The descriptions state them, and the reference is tested against the program.
#[test]
fn the_defaults_in_the_descriptions_are_those_of_the_reference() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("it is JSON");
    let text = fs::read_to_string(in_repository("config/portcullis.yaml")).expect("it is there");
    let reference: Value = serde_yaml::from_str(&text).expect("it is YAML");
    let mut compared = 0;
    for (definition, place) in [
        ("Tls", "/tls"),
        ("Passive", "/passive"),
        ("UserForms", "/user_forms"),
        ("Site", "/sites/0"),
        ("Site", "/sites/1"),
        ("Backend", "/sites/0/backends/0"),
        ("SentProxyProtocol", "/sites/1/backends/0/proxy_protocol"),
        ("Health", "/sites/1/health"),
        ("Limits", "/limits"),
        ("Guard", "/guard"),
        ("Timeouts", "/timeouts"),
    ] {
        let properties = &schema["definitions"][definition]["properties"];
        let shown = reference.pointer(place).expect("the reference has it");
        for (key, property) in properties.as_object().expect("properties") {
            let description = property["description"].as_str();
            let description = description.unwrap_or_else(|| panic!("{definition}.{key}"));
            let default = description
                .rsplit_once("Default: ")
                .and_then(|(_, default)| default.strip_suffix('.'))
                .filter(|default| !default.contains(' '));
            let (Some(default), Some(shown)) = (default, shown.get(key)) else {
                continue;
            };
            // The default site is one.
            if (place, key.as_str()) != ("/sites/0", "default") {
                assert_eq!(
                    shown.to_string().trim_matches('"'),
                    default,
                    "{place}/{key}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared >= 35, "{compared}");
}

#[test]
fn the_schema_sees_mistakes_of_structure() {
    let validator = validator();
    let mut seen = 0;
    for path in files("tests/config/bad") {
        let text = fs::read_to_string(&path).expect("a file of the repository");
        let error = config::parse(&text, Path::new("p.yaml")).expect_err("it is bad");
        let error = error.to_string();
        let first = error.lines().next().expect("a line");
        // Not everything here is YAML.
        let Ok(yaml) = serde_yaml::from_str(&text) else {
            continue;
        };
        if STRUCTURAL.iter().any(|words| first.contains(words)) {
            assert!(
                complaint(&validator, &yaml).is_some(),
                "{}: {first}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen >= 40, "{seen}");
}

/// The reference with one value replaced, in JSON's notation.
fn reference_with(pointer: &str, value: &str) -> Value {
    let text = fs::read_to_string(in_repository("config/portcullis.yaml")).expect("it is there");
    let mut yaml: Value = serde_yaml::from_str(&text).expect("it is YAML");
    let place = yaml.pointer_mut(pointer);
    let place = place.unwrap_or_else(|| panic!("the reference has no {pointer}"));
    *place = serde_json::from_str(value).expect("JSON");
    yaml
}

#[test]
fn the_schema_and_the_reader_agree_on_values() {
    let validator = validator();
    let mut wrong = String::new();
    for (pointer, good, bad) in [
        (
            "/timeouts/idle",
            r#""1ms" "90s" "007m" "720h""#,
            r#"5 "5" "0s" "1d" "1.5s" "" [] "5 m""#,
        ),
        (
            "/timeouts/lame_duck",
            r#""0s" "0h" "10s""#,
            r#"0 "0" "00s""#,
        ),
        (
            "/passive/ports",
            r#"0 30000 "30000" "30000-30063" "30000 - 30063""#,
            r#"null -1 65536 "a" "1-2-3" [1,2] 1.5"#,
        ),
        (
            "/limits/sessions",
            r#"1 10000000 "10000""#,
            r#"null 0 -1 10000001 "1e3" 1.5 true"#,
        ),
        (
            "/sites/0/backends/0/weight",
            r#"1 1000 "100""#,
            r#"-1 1001 "x""#,
        ),
        ("/sites/1/health/fall", r#"1 100 "3""#, r#"0 101 "x""#),
        (
            "/listeners/0/address",
            r#""127.0.0.1:2121" "[::1]:2121" "[fe80::1%2]:21""#,
            r#""localhost:21" ":21" 21 "::1:x""#,
        ),
        (
            "/limits/allow",
            r#"["10.0.0.0/8", "fd00::/8", "10.1.2.3"] []"#,
            r#"["office"] "10.0.0.0/8" [10]"#,
        ),
        (
            "/tls/min_version",
            r#"1.2 1.3 "1.2" "1.3""#,
            r#"1.1 "1.1" "TLSv1.2" true"#,
        ),
        (
            "/tls/session_reuse",
            r#""off" "prefer" "require""#,
            r#""on" false 1"#,
        ),
        ("/tls/certificate", r#""a.pem" 17"#, r#""" []"#),
        (
            "/sites/1/backends/0/proxy_protocol/version",
            r#"1 2 "1" "2""#,
            r#"3 "v2" null"#,
        ),
        (
            "/sites/1/backends/0/verify",
            r#""system" "none" {"ca":"ca.pem"}
               {"fingerprint":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}"#,
            r#"null "off" {} {"ca":"a","fingerprint":"sha256:00"} {"pin":"a"} {"fingerprint":"sha256:00"} 1"#,
        ),
        ("/sites/0/name", r#""a" 2024"#, r#"[] {}"#),
        (
            "/sites/1/hosts",
            r#"["ftpb.lab"]"#,
            r#""ftpb.lab" {"a":"b"}"#,
        ),
        ("/active_mode", r#"true false"#, r#"null "yes" 1"#),
    ] {
        let values = |text| serde_json::Deserializer::from_str(text).into_iter::<Value>();
        let judged = |value: &Value| {
            let yaml = reference_with(pointer, &value.to_string());
            let text = serde_yaml::to_string(&yaml).expect("it can be written");
            let read = config::parse(&text, Path::new("p.yaml"));
            let complaint = complaint(&validator, &yaml);
            (read.map(drop).map_err(|error| error.to_string()), complaint)
        };
        for value in values(good) {
            let value = value.expect("JSON");
            let judged = judged(&value);
            if judged != (Ok(()), None) {
                wrong += &format!("{pointer} {value} is good: {judged:?}\n");
            }
        }
        for value in values(bad) {
            let value = value.expect("JSON");
            let judged = judged(&value);
            if !matches!(judged, (Err(_), Some(_))) {
                wrong += &format!("{pointer} {value} is bad: {judged:?}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
