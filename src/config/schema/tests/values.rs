//! The schemas of values that no derive can know, since each is read from its text.
//!
//! The reader is asked where possible: the words of a list, and the name of a value, are in its errors.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;
use serde_json::Value;

use crate::config::checks::LevelWord;
use crate::config::client_certificates::Fingerprints;
use crate::config::file::Verify;
use crate::config::scalar::{
    AdminAddress, BackendTlsMode, Count, DurationValue, Failures, FileName, Greeting,
    ListenAddress, NameServerAddress, Network, NoticeText, PortRange, Sha256, Times, WaitValue,
    Weight,
};
use crate::config::transfer_logs::FormatWord;
use crate::config::{
    AskClients, Balance, CertificateLayout, CloseNotify, CrlExpired, PassiveMode, ProxyVersion,
    SessionReuse, Status, TlsMode, TlsVersion, UnknownUsers,
};
use crate::policy::users::UserPattern;
use crate::policy::{CertificateUser, DeniedCommand, Preset, Rate};

/// A fingerprint.
const SHA256: &str = "[Ss][Hh][Aa]256:([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}";

/// Implements `JsonSchema` for `$type` by `$schema`.
macro_rules! schemas {
    ($($type:ident: $schema:expr;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema: Schema = $schema;
                schema.insert("description".to_owned(), expected::<$type>().into());
                schema
            }
        }
    )*};
}

schemas! {
    TlsMode: words::<Self>();
    BackendTlsMode: words::<Self>();
    SessionReuse: words::<Self>();
    PassiveMode: words::<Self>();
    Balance: words::<Self>();
    LevelWord: words::<Self>();
    UnknownUsers: words::<Self>();
    Preset: words::<Self>();
    CertificateLayout: words::<Self>();
    CloseNotify: words::<Self>();
    AskClients: words::<Self>();
    CrlExpired: words::<Self>();
    CertificateUser: words::<Self>();
    ProxyVersion: words::<Self>();
    TlsVersion: words::<Self>();
    DurationValue: pattern("0*[1-9][0-9]*(ms|s|m|h)");
    WaitValue: pattern("(0|0*[1-9][0-9]*)(ms|s|m|h)");
    PortRange: number(0, 65535, " *[0-9]{1,5} *(- *[0-9]{1,5} *)?");
    Count: number(1, 10_000_000, "[0-9]{1,20}");
    Failures: number(1, 10_000_000, "[0-9]{1,20}");
    Times: number(1, 100, "[0-9]{1,20}");
    Weight: number(0, 1000, "[0-9]{1,20}");
    Rate: number(64_000, 1_000_000_000_000, "[0-9]+[kMG]?");
    AdminAddress: pattern(r"([0-9.]+|\[[0-9A-Fa-f:.%]+\]):[0-9]{1,5}|off");
    Status: words::<Self>();
    FormatWord: words::<Self>();
    ListenAddress: pattern(r"([0-9.]+|\[[0-9A-Fa-f:.%]+\]):[0-9]{1,5}");
    NameServerAddress: pattern(r"[0-9.]+(:[0-9]{1,5})?|[0-9A-Fa-f:.]+|\[[0-9A-Fa-f:.%]+\]:[0-9]{1,5}");
    Network: pattern("[0-9A-Fa-f:.]+(/[0-9]{1,3})?");
    Sha256: pattern(SHA256);
    Fingerprints: json_schema!({
        "anyOf": [pattern(SHA256), {"type": "array", "items": pattern(SHA256)}],
    });
    FileName: text();
    Greeting: text();
    NoticeText: text();
    UserPattern: text();
    DeniedCommand: text();
    Verify: json_schema!({
        "anyOf": [
            {"enum": ["system", "none"]},
            {
                "type": "object",
                "properties": {"ca": text()},
                "required": ["ca"],
                "additionalProperties": false,
            },
            {
                "type": "object",
                "properties": {"fingerprint": pattern(SHA256)},
                "required": ["fingerprint"],
                "additionalProperties": false,
            },
        ],
    });
}

/// What the reader calls such a value.
fn expected<T: for<'de> Deserialize<'de>>() -> String {
    let error = T::deserialize(().into_deserializer());
    let error: Error = error.err().expect("nothing is no value");
    let error = error.to_string();
    let (_, expected) = error.split_once(", expected ").expect("it says what is");
    expected.to_owned()
}

/// Those that the reader knows. YAML takes some of them for numbers unless they are quoted.
fn words<T: for<'de> Deserialize<'de>>() -> Schema {
    let error = T::deserialize("no such word".into_deserializer());
    let error: Error = error.err().expect("no list has that");
    let error = error.to_string();
    let (_, help) = error.split_once("\nwrite ").expect("it says what to write");
    let words: Vec<&str> = help.split('`').skip(1).step_by(2).collect();
    assert!(words.len() >= 2, "{error}");
    let numbers = words
        .iter()
        .filter_map(|word| serde_json::from_str(word).ok());
    let texts = words.iter().map(|word| Value::from(*word));
    json_schema!({"enum": texts.chain(numbers.filter(Value::is_number)).collect::<Vec<_>>()})
}

/// Any text; YAML takes one of digits for a number.
pub(super) fn text() -> Schema {
    json_schema!({"type": ["string", "number"], "minLength": 1})
}

/// Text of this form, from its first character to its last.
fn pattern(form: &str) -> Schema {
    json_schema!({"type": "string", "pattern": format!("^({form})$")})
}

/// A whole number, or text of this form.
fn number(least: u64, most: u64, form: &str) -> Schema {
    json_schema!({
        "anyOf": [
            {"type": "integer", "minimum": least, "maximum": most},
            pattern(form),
        ],
    })
}
