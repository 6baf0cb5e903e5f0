//! What a scripted backend has seen, and the files that it has by now.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::{Condvar, Mutex, MutexGuard};

use super::Received;
use crate::script::{Script, Step};
use crate::wire::End;

#[derive(Debug)]
pub(super) struct Shared {
    pub script: Script,
    /// As uploads have left them.
    pub files: Mutex<BTreeMap<String, Vec<u8>>>,
    pub seen: Mutex<Seen>,
    /// Told of every change of `seen`.
    pub changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub commands: Vec<String>,
    pub lines: Vec<Vec<u8>>,
    pub received: Vec<Received>,
    /// By command.
    pub data_ends: BTreeMap<String, End>,
    pub ends: Vec<End>,
    pub connections: usize,
    /// The PROXY headers of control connections.
    pub headers: Vec<Vec<u8>>,
    /// And of data connections, with the port that each came to.
    pub data_headers: Vec<(u16, Vec<u8>)>,
    /// What clients have shown, in DER, one for each handshake; empty where they have shown none.
    pub client_certificates: Vec<Vec<u8>>,
    /// Of the sessions that run, by number: kept to end them, which run in threads of their own, with the backend.
    pub sockets: BTreeMap<usize, TcpStream>,
    pub stopped: bool,
}

impl Shared {
    /// No client has come yet, and the files are those of the script.
    pub fn new(script: Script) -> Self {
        Self {
            files: Mutex::new(script.files.clone()),
            script,
            seen: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// What is done at a command with this verb that is one of the first.
    pub fn at_first(&self, verb: &str) -> Option<&Vec<Step>> {
        let (times, steps) = self.script.at_first.get(verb)?;
        let commands = &self.seen().commands;
        let such = commands.iter().filter(|line| {
            let written = line.split(' ').next().unwrap_or_default();
            written.eq_ignore_ascii_case(verb)
        });
        (such.count() <= *times).then_some(steps)
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    pub fn record(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds it")
}
