//! The YAML text as a structure of maps and lists, apart from what its keys mean: no key twice, none without a value, and where
//! a path begins.
//!
//! The YAML reader reports positions in its errors only. So a place is found by reading the text again along the path,
//! and failing there on purpose: the error then carries the reader's own position, whatever style, quotes or comments
//! the text is written in.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::quoted;
use super::location::{Location, PathStep, Position};

/// How many values a file may have once its aliases are followed. 1 MiB of YAML holds fewer than this, unless aliases
/// multiply them.
const MAX_VALUES: u32 = 1_000_000;

/// Where `location` begins; for a path that the text doesn't have, the innermost value on the way.
pub(super) fn locate(text: &str, location: &Location) -> Option<Position> {
    let (steps, want_key) = match location {
        Location::Key(steps) => (steps, true),
        Location::Value(steps) => (steps, false),
    };
    let error = Finder { steps, want_key }
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()?;
    Position::of(&error)
}

/// Where the second document of the text begins, if it has more than one.
pub(super) fn second_document(text: &str) -> Option<Position> {
    let second = serde_yaml::Deserializer::from_str(text).nth(1)?;
    let error = Finder {
        steps: &[],
        want_key: false,
    }
    .deserialize(second)
    .err()?;
    Position::of(&error)
}

/// Fails, with a position, at the first key that a map has twice.
///
/// YAML readers take the last of two equal keys silently, and serde's own check knows only keys that it expects.
pub(super) fn refuse_duplicate_keys(text: &str) -> Result<(), serde_yaml::Error> {
    check_keys(text, KeyRule::Distinct)
}

/// Fails, with a position, at the first key without a value, which would count as left out: a `client_certificate:` whose lines
/// below are commented out would require none.
pub(super) fn refuse_keys_without_value(text: &str) -> Result<(), serde_yaml::Error> {
    check_keys(text, KeyRule::WithValue)
}

fn check_keys(text: &str, rule: KeyRule) -> Result<(), serde_yaml::Error> {
    let left = Cell::new(MAX_VALUES);
    let whole = CheckedKeys {
        left: &left,
        rule,
        is_value_of_key: false,
    };
    whole.deserialize(serde_yaml::Deserializer::from_str(text))
}

/// What every key of a file has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyRule {
    Distinct,
    WithValue,
}

/// Follows `steps` and fails at their end.
struct Finder<'a> {
    steps: &'a [PathStep],
    want_key: bool,
}

impl<'de> DeserializeSeed<'de> for Finder<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A visitor fails at all that it has no method for, which here is what arriving means.
impl<'de> Visitor<'de> for Finder<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of the path")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((PathStep::Key(wanted), rest)) = self.steps.split_first() else {
            return Err(de::Error::custom("the path ends here"));
        };
        let stop_at = (self.want_key && rest.is_empty()).then_some(*wanted);
        while let Some(key) = map.next_key_seed(KeySeed { stop_at })? {
            if key == *wanted {
                return map.next_value_seed(Finder {
                    steps: rest,
                    want_key: self.want_key,
                });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Err(de::Error::custom("no such key"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((PathStep::Index(wanted), rest)) = self.steps.split_first() else {
            return Err(de::Error::custom("the path ends here"));
        };
        for _ in 0..*wanted {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Finder {
            steps: rest,
            want_key: self.want_key,
        })?;
        Err(de::Error::custom("no such item"))
    }
}

/// Reads one key of a map, and fails if it is the one to stop at.
struct KeySeed {
    stop_at: Option<&'static str>,
}

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        if self.stop_at == Some(key) {
            Err(E::custom("the path ends here"))
        } else {
            Ok(key.to_owned())
        }
    }
}

/// Visits everything.
#[derive(Clone, Copy)]
struct CheckedKeys<'a> {
    left: &'a Cell<u32>,
    rule: KeyRule,
    is_value_of_key: bool,
}

impl<'de> DeserializeSeed<'de> for CheckedKeys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => {
                return Err(de::Error::custom(
                    "aliases expand this file to more than 1000000 values\nwrite the values out",
                ));
            }
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CheckedKeys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a YAML tag")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(()) = map.next_key_seed(UniqueKeySeed { seen: &mut seen })? {
            map.next_value_seed(CheckedKeys {
                is_value_of_key: true,
                ..self
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let item = CheckedKeys {
            is_value_of_key: false,
            ..self
        };
        while let Some(()) = seq.next_element_seed(item)? {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        match self.is_value_of_key && self.rule == KeyRule::WithValue {
            true => Err(E::custom(
                "a key without a value\nwrite a value behind it, `{}` for a section's defaults, or leave the key out",
            )),
            false => Ok(()),
        }
    }
}

/// Reads one key of a map, and fails if the map had it already.
struct UniqueKeySeed<'a> {
    seen: &'a mut HashSet<String>,
}

impl<'de> DeserializeSeed<'de> for UniqueKeySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for UniqueKeySeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a plain word")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<(), E> {
        if self.seen.insert(key.to_owned()) {
            return Ok(());
        }
        let key = quoted(key);
        Err(E::custom(format!(
            "duplicate key {key}\nkeep one of the two"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
top: {a: 1, \"b\": [x, 'y: z']}
sites:
- name: one   # sites:
  hosts:
    - h1
    # - commented
    - \"h: 2\"
-   name: two
    text: |
      sites:
        - name: not this
    last: *anchor
";

    fn found(text: &str, location: Location) -> Option<(usize, usize)> {
        locate(text, &location).map(|position| (position.line, position.column))
    }

    #[test]
    fn values_are_found_in_every_style() {
        let text = TEXT.replace("*anchor", "end").replace("{a: 1", "{a: &n 1");
        let value = |steps: Vec<PathStep>| found(&text, Location::Value(steps));
        assert_eq!(
            value(vec!["top".into(), "b".into(), 1.into()]),
            Some((2, 25))
        );
        assert_eq!(
            value(vec!["sites".into(), 0.into(), "hosts".into(), 1.into()]),
            Some((8, 7))
        );
        assert_eq!(
            value(vec!["sites".into(), 1.into(), "name".into()]),
            Some((9, 11))
        );
        assert_eq!(
            value(vec!["sites".into(), 1.into(), "last".into()]),
            Some((13, 11))
        );
    }

    #[test]
    fn keys_are_found_too() {
        let text = TEXT.replace("*anchor", "end");
        let key = |steps: Vec<PathStep>| found(&text, Location::Key(steps));
        assert_eq!(key(vec!["sites".into()]), Some((3, 1)));
        assert_eq!(
            key(vec!["sites".into(), 1.into(), "text".into()]),
            Some((10, 5))
        );
        assert_eq!(key(vec!["top".into(), "b".into()]), Some((2, 13)));
    }

    #[test]
    fn a_path_that_is_not_there_ends_at_what_is() {
        let text = TEXT.replace("*anchor", "end");
        let missing = Location::Value(vec!["sites".into(), 1.into(), "hosts".into(), 3.into()]);
        assert_eq!(found(&text, missing), Some((9, 5)));
        let beyond = Location::Value(vec!["sites".into(), 7.into()]);
        assert_eq!(found(&text, beyond), Some((4, 1)));
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(
            found("{\u{e4}\u{20ac}: 1, b: 2}", Location::Key(vec!["b".into()])),
            Some((1, 9))
        );
    }

    #[test]
    fn a_key_without_a_value_is_refused_where_it_stands() {
        for (text, line) in [
            ("a: 1\nb:\n  c:\n    # d: 1\n  e: 2\n", 3),
            ("a: ~\n", 1),
            ("a: [{b: null}]\n", 1),
            ("a: 1\nb:\n", 2),
        ] {
            let error = refuse_keys_without_value(text).expect_err("it has no value");
            assert_eq!(Position::of(&error).map(|it| it.line), Some(line), "{text}");
        }
        refuse_keys_without_value("a: {}\nb: []\nc: \"\"\n").expect("nothing lacks a value");
    }

    #[test]
    fn a_key_twice_is_refused_where_it_is_repeated() {
        let error = refuse_duplicate_keys("a: 1\nb:\n  - {c: 1, d: 2, \"c\": 3}\n")
            .expect_err("c is there twice");
        assert_eq!(
            Position::of(&error),
            Some(Position {
                line: 3,
                column: 18
            })
        );
        refuse_duplicate_keys("a: {b: 1}\nc: {b: 1}\nd: [{b: 1}, {b: 2}]\n")
            .expect("no key of one map twice");
    }

    #[test]
    fn aliases_cannot_multiply_without_end() {
        let many = "x,".repeat(2000);
        let aliases = "*a,".repeat(2000);
        let text = format!("a: &a [{many}]\nb: [{aliases}]\n");
        refuse_duplicate_keys(&text).expect_err("four million values");
        refuse_duplicate_keys("a: &a [*a]").expect_err("endless");
    }

    #[test]
    fn the_second_document_is_found() {
        let position = second_document("a: 1\n---\nb: 2\n").expect("a second document");
        assert_eq!(position.line, 3);
        assert_eq!(second_document("a: 1\n"), None);
    }
}
