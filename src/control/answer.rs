//! The process's answer: JSON, of which each command reads what it shows. It is passed on to programs as it came.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::error::Unreadable;
use crate::base::text::{Masked, is_printable};

/// The version of the API that is read.
const VERSION: u64 = 1;

/// An answer: one JSON object.
#[derive(Debug)]
pub struct ApiAnswer {
    whole: Box<RawValue>,
    members: BTreeMap<String, Box<RawValue>>,
}

/// The number of times that something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// The question is asked once.
    One,
    /// The question is asked repeatedly.
    Many,
}

/// A list in an answer.
#[derive(Debug)]
pub struct List<T> {
    /// The entries, at most as many as were asked for.
    pub entries: Vec<T>,
    /// The number of entries in all.
    pub total: usize,
}

impl ApiAnswer {
    /// Reads the body of a response.
    pub fn read(body: &[u8]) -> Result<Self, Unreadable> {
        let whole: Box<RawValue> = serde_json::from_slice(body)?;
        let members = serde_json::from_str(whole.get())?;
        let answer = Self { whole, members };
        match answer.member("version")? {
            VERSION => Ok(answer),
            other => Err(Unreadable::Version(other)),
        }
    }

    /// The value of a member of the answer.
    pub fn member<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, Unreadable> {
        Ok(serde_json::from_str(self.raw(name)?.get())?)
    }

    /// The value of a member as text that can be shown on a terminal.
    pub fn text(&self, name: &'static str) -> Result<String, Unreadable> {
        let text: String = self.member(name)?;
        let lines: Vec<String> = text.lines().map(|line| Masked(line).to_string()).collect();
        Ok(lines.join("\n"))
    }

    /// The list under this name.
    pub fn list<T: DeserializeOwned>(&self, name: &'static str) -> Result<List<T>, Unreadable> {
        Ok(List {
            entries: self.member(name)?,
            total: self.member("total")?,
        })
    }

    /// The value of a member, as JSON in one line.
    pub fn json(&self, name: &'static str) -> Result<String, Unreadable> {
        Ok(one_line(self.raw(name)?))
    }

    /// A list as JSON. Asked for once, each of its entries is a line; else the answer is one line, so that each round is.
    pub fn json_lines(&self, name: &'static str, rounds: Rounds) -> Result<String, Unreadable> {
        let lines = match rounds {
            Rounds::One => {
                let entries: Vec<Box<RawValue>> = self.member(name)?;
                entries.iter().map(|entry| one_line(entry)).collect()
            }
            Rounds::Many => vec![one_line(&self.whole)],
        };
        Ok(lines
            .into_iter()
            .fold(String::new(), |text, line| text + &line + "\n"))
    }

    fn raw(&self, name: &'static str) -> Result<&RawValue, Unreadable> {
        let member = self.members.get(name).ok_or(Unreadable::Missing(name))?;
        Ok(member)
    }
}

impl<T> List<T> {
    /// The line that tells how many entries there are beyond these; empty if there are none.
    pub fn rest(&self) -> String {
        match self.total.saturating_sub(self.entries.len()) {
            0 => String::new(),
            rest => format!("… and {rest} more\n"),
        }
    }
}

/// JSON that means the same, in one line of characters that print: it may go to a terminal, too.
fn one_line(json: &RawValue) -> String {
    let mut line = String::with_capacity(json.get().len());
    for character in json.get().chars() {
        match character {
            // They stand between tokens: in a string they are escaped.
            '\n' | '\r' | '\t' => line.push(' '),
            plain if is_printable(plain) => line.push(plain),
            // Such a character is in a string, where an escape is the same.
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // A String takes whatever is written.
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> ApiAnswer {
        ApiAnswer::read(json.as_bytes()).expect("an answer")
    }

    #[test]
    fn entries_are_passed_on_with_the_keys_that_they_came_with() {
        let answer = answer(
            "{\"version\": 1, \"total\": 2, \"sessions\": [{\"id\": 7,\n \"client\": \"192.0.2.7:5\"}, {\"new\": {\"a\":1.50}}]}\n",
        );
        assert_eq!(
            answer.json_lines("sessions", Rounds::One).expect("a list"),
            "{\"id\": 7,  \"client\": \"192.0.2.7:5\"}\n{\"new\": {\"a\":1.50}}\n"
        );
        let whole = answer.json_lines("sessions", Rounds::Many).expect("a list");
        assert!(whole.starts_with("{\"version\": 1, "), "{whole}");
        assert_eq!(whole.lines().count(), 1);
    }

    #[test]
    fn nothing_but_what_prints_is_passed_on_and_it_means_the_same() {
        let user = "a\u{7f}\u{9b}2J\u{202e}\u{e0001}Zoë";
        let answer = answer(&format!(
            "{{\"version\":1,\"error\":\"x{user}\\nb\\u001b[2J\",\"list\":[\"{user}\"]}}"
        ));
        let json = answer.json("list").expect("a list");
        assert_eq!(json, "[\"a\\u007f\\u009b2J\\u202e\\udb40\\udc01Zoë\"]");
        let meant: [String; 1] = serde_json::from_str(&json).expect("JSON");
        assert_eq!(meant, [user]);
        assert_eq!(answer.text("error").expect("a text"), "xa??2J??Zoë\nb?[2J");
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for (body, why) in [
            ("", "EOF while parsing"),
            ("ok\n", "expected value"),
            ("[1]", "invalid type"),
            ("{}", "it has no `version`"),
            ("{\"version\":\"1\"}", "invalid type"),
            ("{\"version\":2}", "of version 2 of the API"),
        ] {
            let error = ApiAnswer::read(body.as_bytes())
                .expect_err(body)
                .to_string();
            assert!(error.contains(why), "{body}: {error}");
        }
        let error = answer("{\"version\":1,\"total\":0}").json_lines("sessions", Rounds::One);
        assert_eq!(
            error.expect_err("no list").to_string(),
            "it has no `sessions`"
        );
    }
}
