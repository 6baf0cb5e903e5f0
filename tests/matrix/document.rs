//! `docs/compatibility.md`, written from what the run found. Nothing in it depends on when or where it ran.

use std::fmt::{self, Write};

use crate::action::{Action, SIZES};
use crate::cell::{Cell, Verdict};
use crate::client::{Client, Resumption};
use crate::leg::{Leg, Version};
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
    resumption(&mut text, &mut notes);
    trees(&mut text, findings, &mut notes);
    notes.write(&mut text);
    legs_of_pairs(&mut text, findings);
    text
}

fn pairs(text: &mut String, findings: &Findings, notes: &mut Notes) {
    text.push_str("\n## Every client with every server\n\n");
    let sizes = SIZES.map(|size| size.to_string()).join(", ");
    let actions: Vec<String> = Action::EVERYWHERE.iter().map(Action::to_string).collect();
    writeln!(
        text,
        "Each cell stands for: {}. Files of {sizes} bytes and of 50 MB go up and down; names are uploaded, renamed, \
         listed and downloaded. ✔: all of it works, but for what the notes say.\n",
        actions.join("; ")
    )
    .expect(INFALLIBLE);
    table_of_clients(text, "server", Kind::ALL, |server, client| {
        let verdicts = pair(findings, client, server)
            .map(|(_, verdicts)| verdicts)
            .unwrap_or_default();
        mark(verdicts, notes)
    });
}

fn pair(
    findings: &Findings,
    client: Client,
    server: Kind,
) -> Option<(&Cell, &[(Action, Verdict)])> {
    findings
        .iter()
        .find(|(purpose, cell, _)| {
            *purpose == Purpose::Pair && cell.client == client && cell.server == server
        })
        .map(|(_, cell, verdicts)| (cell, verdicts.as_slice()))
}

fn legs(text: &mut String, findings: &Findings, notes: &mut Notes) {
    text.push_str(
        "\n## Every client over every leg\n\nA leg is the way between client and Portcullis. A file of 16385 bytes goes \
         up, a directory is listed, and the file comes down, in one session. That TLS has the version and data \
         connections are opened in the way that the row says is checked, the latter but for PHP and Mono, which don't \
         show what they are told.\n\n",
    );
    table_of_clients(text, "leg", Leg::all(), |leg, client| {
        let found = findings.iter().find(|(purpose, cell, _)| {
            *purpose == Purpose::Leg && cell.client == client && cell.leg == leg
        });
        match (client.cannot_have(leg), found) {
            (Some(reason), _) => format!("– {}", notes.number(&format!("{client} {reason}."))),
            (None, Some((_, _, verdicts))) => mark(verdicts, notes),
            (None, None) => String::new(),
        }
    });
}

/// Checked in every cell with TLS.
fn resumption(text: &mut String, notes: &mut Notes) {
    text.push_str(
        "\n## Which clients resume the TLS session on data connections\n\nThe clients with ✔ do so on every data \
         connection, in every cell above and below: a site can have `session_reuse: require` for them. Those with – \
         need `prefer`, the default.\n\n",
    );
    table_head(
        text,
        "client",
        &Version::ALL.map(|version| version.to_string()),
    );
    let protected = |client: &Client| {
        let legs = client.legs();
        legs.iter().any(|leg| leg.protection.version().is_some())
    };
    for client in Client::ALL.into_iter().filter(protected) {
        write!(text, "| {client} |").expect(INFALLIBLE);
        for version in Version::ALL {
            let alone = client.resumption(version, Action::Download);
            let parallel = client.resumption(version, Action::Several);
            let mut mark = match alone {
                Resumption::Always => "✔",
                Resumption::Sometimes(_) => "– not always",
                Resumption::Never(_) => "– never",
            }
            .to_owned();
            let mut reasons = Vec::new();
            for outcome in [alone, parallel] {
                if let Resumption::Sometimes(reason) | Resumption::Never(reason) = outcome {
                    let number = notes.number(&format!("{reason}."));
                    if !reasons.contains(&number) {
                        write!(mark, " {number}").expect(INFALLIBLE);
                        reasons.push(number);
                    }
                }
            }
            write!(text, " {mark} |").expect(INFALLIBLE);
        }
        text.push('\n');
    }
}

fn trees(text: &mut String, findings: &Findings, notes: &mut Notes) {
    text.push_str(
        "\n## Many files\n\n500 small files in 20 directories go up and down, four at a time, with two servers for each \
         client.\n\n",
    );
    table_head(text, "client", &["500 files in parallel".to_owned()]);
    for client in Client::ALL {
        let cells: Vec<String> = findings
            .iter()
            .filter(|(purpose, cell, _)| *purpose == Purpose::Tree && cell.client == client)
            .map(|(_, cell, verdicts)| {
                format!("{} {} ({})", mark(verdicts, notes), cell.server, cell.leg)
            })
            .collect();
        writeln!(text, "| {client} | {} |", cells.join("; ")).expect(INFALLIBLE);
    }
}

fn legs_of_pairs(text: &mut String, findings: &Findings) {
    text.push_str(
        "\n## The legs of the first table\n\nThey change from cell to cell, so that every server meets every kind.\n\n",
    );
    table_of_clients(text, "server", Kind::ALL, |server, client| {
        pair(findings, client, server)
            .map(|(cell, _)| cell.leg.to_string())
            .unwrap_or_default()
    });
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

/// A table with a column for each client.
fn table_of_clients<Row: fmt::Display + Copy>(
    text: &mut String,
    first: &str,
    rows: impl IntoIterator<Item = Row>,
    mut cell: impl FnMut(Row, Client) -> String,
) {
    table_head(text, first, &Client::ALL.map(|client| client.to_string()));
    for row in rows {
        write!(text, "| {row} |").expect(INFALLIBLE);
        for client in Client::ALL {
            write!(text, " {} |", cell(row, client)).expect(INFALLIBLE);
        }
        text.push('\n');
    }
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

# Compatibility

Real clients in front of Portcullis, real servers behind it, as `make compatibility` runs them. In short: every client works
with every server, and what works with these servers directly works through Portcullis. In front of IIS, NcFTP needs
`greeting: Microsoft FTP Service`, by which it knows that listings are in the manner of DOS; the cells with IIS have it.
Mono ends its uploads under TLS without close_notify, as the .NET Framework does: its cells have `close_notify: optional`.
Not every client can be held to `session_reuse: require`: see
[which do resume](#which-clients-resume-the-tls-session-on-data-connections).

What can't work says why, and is tried all the same where the client has a way to. It has to fail as is said: should it
work one day, or fail otherwise, the test fails. Between a client and a server, what fails through Portcullis has to fail
without it, too. No transfer may fail unnoticed, behind a client that tries again.

Clients: curl 7.88, lftp 4.9, NcFTP 3.2, tnftp 20210827, GNU wget 1.21, Python's ftplib as it is and taught to resume the
TLS session, rclone 1.60, basic-ftp 6.2, the engine of FileZilla 3.63 without its window, aioftp 0.28, Net::FTP of Ruby 3.1
and of Perl 5.36, the FTP extension of PHP 8.2, Apache Commons Net 3.9, FtpWebRequest of Mono 6.8, PycURL 7.49 with libcurl
8.23, suppaftp 12.2. Servers: vsftpd 3.0.3, ProFTPD 1.3.8, Pure-FTPd 1.0.50, pyftpdlib 2.2, inetutils-ftpd 2.4, and a
script that speaks like the FTP service of IIS 7 and later. \"TLS\" behind a server's name says that Portcullis speaks TLS to
it; vsftpd and ProFTPD then demand that data connections resume the session, so that clients that never do (plain ftplib)
can't use them directly, but can through Portcullis.
";
