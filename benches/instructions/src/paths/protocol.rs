//! Lines, commands, replies, and where a login goes.

use std::hint::black_box;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use portcullis::base::SiteId;
use portcullis::config::{HostPattern, Site, UserForms};
use portcullis::ftp::command::Command;
use portcullis::ftp::features;
use portcullis::ftp::line::{Line, LineBuffer, MAX_COMMAND_LINE, MAX_REPLY_LINE};
use portcullis::ftp::reply::{Reply, ReplyParser};
use portcullis::policy::UserFiles;
use portcullis::route::Router;

use crate::valgrind::counted_from_here;

/// A command off the client's connection.
pub fn command(rounds: u32) -> io::Result<()> {
    let mut buffer = LineBuffer::new(MAX_COMMAND_LINE);
    counted_from_here(rounds, &mut || {
        buffer
            .unread()
            .extend_from_slice(b"RETR outgoing/2026/report of november.pdf\r\n");
        if let Some(Line::Whole(line)) = buffer.next_line() {
            let _ = black_box(Command::parse(line));
        }
    });
    Ok(())
}

/// A reply off the backend's connection.
pub fn reply(rounds: u32) -> io::Result<()> {
    let mut buffer = LineBuffer::new(MAX_REPLY_LINE);
    let mut parser = ReplyParser::default();
    counted_from_here(rounds, &mut || {
        buffer
            .unread()
            .extend_from_slice(b"226 Transfer complete, 1048576 bytes.\r\n");
        if let Some(line) = buffer.next_line() {
            let _ = black_box(parser.push(line));
        }
    });
    Ok(())
}

/// A backend's FEAT joined with ours.
pub fn features(rounds: u32) -> io::Result<()> {
    let list = "211-Features:\n AUTH TLS\n EPRT\n EPSV\n MDTM\n PASV\n PBSZ\n PROT\n REST STREAM\n SIZE\n TVFS\n UTF8\n211 End";
    let backend = read(list);
    counted_from_here(rounds, &mut || {
        black_box(features::after_login(&backend, true, |_| true));
    });
    Ok(())
}

/// A login that names its host, among a thousand sites.
pub fn route(rounds: u32) -> io::Result<()> {
    let sites = (0..1000).map(|number| site(number, "{user}"));
    let router = Router::new(
        (0..).map(SiteId).zip(sites),
        UserForms::default(),
        &UserFiles::default(),
    );
    // Each site in turn: where one of them lies in the table is another matter in each process, which has its own keys.
    let users: Vec<String> = (0..1000)
        .map(|number| format!("Site{number}.Example.com|alice"))
        .collect();
    let mut users = users.iter().cycle();
    counted_from_here(rounds, &mut || {
        let user = users.next().map_or(&b""[..], |user| user.as_bytes());
        let _ = black_box(router.route(user, None, None));
    });
    Ok(())
}

/// The reply of these lines.
pub fn read(text: &str) -> Reply {
    let mut parser = ReplyParser::default();
    let mut lines = text.split('\n');
    lines
        .find_map(|line| {
            let line = Line::Whole(Bytes::copy_from_slice(line.as_bytes()));
            parser.push(line).expect("a reply")
        })
        .expect("a whole reply")
}

/// `siteN.example.com`; the first is the default.
pub fn site(number: usize, user: &str) -> Arc<Site> {
    let host = format!("site{number}.example.com");
    Arc::new(Site {
        default: number == 0,
        hosts: vec![HostPattern::parse(&host).expect("a host name")],
        user: user.parse().expect("a template"),
        ..Site::named(format!("site{number}"))
    })
}
