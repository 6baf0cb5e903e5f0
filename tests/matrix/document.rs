//! `docs/compatibility.md`, written from what the run found. Nothing in it depends on when or where it ran.

use std::fmt::Write;

use crate::action::{Action, SIZES};
use crate::cell::{Cell, Verdict};
use crate::client::Client;
use crate::leg::Leg;
use crate::plan::Purpose;
use crate::server::Kind;

/// What the run found: for each cell, a verdict for each of its actions.
pub type Findings = Vec<(Purpose, Cell, Vec<(Action, Verdict)>)>;

/// The whole document.
pub fn render(findings: &Findings) -> String {
    let mut notes = Notes::default();
    let mut text = String::from(HEAD);
    pairs(&mut text, findings, &mut notes);
    legs(&mut text, findings, &mut notes);
    large(&mut text, findings, &mut notes);
    notes.write(&mut text);
    text
}

fn pairs(text: &mut String, findings: &Findings, notes: &mut Notes) {
    text.push_str("\n## Every client with every server\n\n");
    let sizes = SIZES.map(|size| size.to_string()).join(", ");
    let actions: Vec<String> = Action::EVERYWHERE.iter().map(Action::to_string).collect();
    writeln!(
        text,
        "Each cell stands for: {}. Files of {sizes} bytes go up and down; names are uploaded, renamed, listed and \
         downloaded. ✔: all of it works, but for what the notes say.\n",
        actions.join("; ")
    )
    .expect(INFALLIBLE);
    let header = Client::ALL.map(|client| client.to_string());
    table_head(text, "server", &header);
    for server in Kind::ALL {
        write!(text, "| {server} |").expect(INFALLIBLE);
        for client in Client::ALL {
            let verdicts = findings
                .iter()
                .find(|(purpose, cell, _)| {
                    *purpose == Purpose::Pair && cell.client == client && cell.server == server
                })
                .map(|(_, _, verdicts)| verdicts.as_slice())
                .unwrap_or_default();
            write!(text, " {} |", mark(verdicts, notes)).expect(INFALLIBLE);
        }
        text.push('\n');
    }
    text.push_str("\nThe legs of these cells, between client and Portcullis:\n\n");
    table_head(text, "server", &header);
    for server in Kind::ALL {
        write!(text, "| {server} |").expect(INFALLIBLE);
        for client in Client::ALL {
            let leg = findings
                .iter()
                .find(|(purpose, cell, _)| {
                    *purpose == Purpose::Pair && cell.client == client && cell.server == server
                })
                .map(|(_, cell, _)| cell.leg.to_string())
                .unwrap_or_default();
            write!(text, " {leg} |").expect(INFALLIBLE);
        }
        text.push('\n');
    }
}

fn legs(text: &mut String, findings: &Findings, notes: &mut Notes) {
    text.push_str(
        "\n## Every client over every leg\n\nA file of 16385 bytes goes up, a directory is listed, and the file comes \
         down, in one session. That TLS has the version and data connections are opened in the way that the row says \
         is checked; with TLS, data connections of every client resume the session of their control connection, but \
         those of plain ftplib, and of rclone in TLS 1.2, where Go resumes by tickets alone.\n\n",
    );
    table_head(text, "leg", &Client::ALL.map(|client| client.to_string()));
    for leg in Leg::all() {
        write!(text, "| {leg} |").expect(INFALLIBLE);
        for client in Client::ALL {
            let found = findings.iter().find(|(purpose, cell, _)| {
                *purpose == Purpose::Leg && cell.client == client && cell.leg == leg
            });
            let mark = match (client.cannot_have(leg), found) {
                (Some(reason), _) => format!("– {}", notes.number(&format!("{client} {reason}."))),
                (None, Some((_, _, verdicts))) => mark(verdicts, notes),
                (None, None) => String::new(),
            };
            write!(text, " {mark} |").expect(INFALLIBLE);
        }
        text.push('\n');
    }
}

fn large(text: &mut String, findings: &Findings, notes: &mut Notes) {
    text.push_str(
        "\n## Large files and many files\n\n50 MB go up and down; 500 small files in 20 directories go up and down, \
         four at a time.\n\n",
    );
    table_head(
        text,
        "client",
        &[Action::Big.to_string(), Action::Tree.to_string()],
    );
    for client in Client::ALL {
        write!(text, "| {client} |").expect(INFALLIBLE);
        for wanted in [Purpose::Big, Purpose::Tree] {
            let cells: Vec<String> = findings
                .iter()
                .filter(|(purpose, cell, _)| *purpose == wanted && cell.client == client)
                .map(|(_, cell, verdicts)| {
                    format!("{} {} ({})", mark(verdicts, notes), cell.server, cell.leg)
                })
                .collect();
            write!(text, " {} |", cells.join("; ")).expect(INFALLIBLE);
        }
        text.push('\n');
    }
}

/// A check mark, and the notes on what isn't covered by it.
fn mark(verdicts: &[(Action, Verdict)], notes: &mut Notes) -> String {
    let mut numbers = Vec::new();
    let mut works = false;
    for (action, verdict) in verdicts {
        let note = match verdict {
            Verdict::Works => {
                works = true;
                continue;
            }
            Verdict::NotTried(reason) | Verdict::Fails(reason) => format!("{reason}."),
            Verdict::Cannot(reason) => format!("{action}: {reason}."),
            Verdict::Lost(reason) => {
                format!("{action}, **though without Portcullis it works**: {reason}.")
            }
        };
        let number = notes.number(&note);
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    let mut mark = if works { "✔" } else { "–" }.to_owned();
    for number in numbers {
        write!(mark, " {number}").expect(INFALLIBLE);
    }
    mark
}

fn table_head(text: &mut String, first: &str, columns: &[String]) {
    writeln!(text, "| {first} | {} |", columns.join(" | ")).expect(INFALLIBLE);
    writeln!(text, "|---|{}", "---|".repeat(columns.len())).expect(INFALLIBLE);
}

/// Reasons, numbered as they come.
#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl Notes {
    fn number(&mut self, note: &str) -> String {
        let known = self.0.iter().position(|known| known == note);
        let index = known.unwrap_or_else(|| {
            self.0.push(note.to_owned());
            self.0.len() - 1
        });
        format!("[{}]", index + 1)
    }

    fn write(&self, text: &mut String) {
        text.push_str("\n## Notes\n\n");
        for (index, note) in self.0.iter().enumerate() {
            writeln!(text, "{}. {note}", index + 1).expect(INFALLIBLE);
        }
    }
}

const INFALLIBLE: &str = "a String takes everything";

const HEAD: &str = "\
<!-- Written by `make compatibility` from a run of tests/matrix. Don't edit: a test compares. -->

# What works with what

Real clients in front of Portcullis, real servers behind it, as `make compatibility` runs them. What can't work
says why, and is tried all the same where the client has a way to: should it work one day, the test fails. Between a client
and a server, what fails through Portcullis has to fail without it, too; where that isn't so, the note says it in bold.

Clients: curl 7.88, lftp 4.9, NcFTP 3.2, tnftp 20210827, GNU wget 1.21, Python's ftplib as it is and taught to resume the
TLS session, rclone 1.60, basic-ftp 6.2, the engine of FileZilla 3.63 without its window. Servers: vsftpd 3.0.3, ProFTPD
1.3.8, Pure-FTPd 1.0.50, pyftpdlib 2.2, inetutils-ftpd 2.4, and a script that speaks like the FTP service of IIS 7 and
later. \"TLS\" behind a server's name says that Portcullis speaks TLS to it; vsftpd and ProFTPD then demand that data
connections resume the session, so that clients that never do (plain ftplib) can't use them directly, but can through
Portcullis.
";
