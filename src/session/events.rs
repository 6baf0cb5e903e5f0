//! Waiting for whatever happens next, and for no longer than the machine has patience.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::machine::{BadLine, Event, Prepared, Wait};
use super::{Drain, Session};
use crate::ftp::command::Command;
use crate::ftp::line::Line;
use crate::net::control::ControlConnection;
use crate::net::deadline;

/// Whether the machine knows that the client's connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientEnd {
    Open,
    /// Its side is.
    ToldEnded,
    ToldGone,
}

/// How often has been looked whether something has arrived in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    First,
    /// See [`deadline`].
    Second,
}

impl Session {
    /// Starts the time for what the machine waits for, unless it runs already.
    pub(super) fn arm(&mut self) {
        let clock = self.machine.clock();
        if self.clock.replace(clock) == Some(clock) {
            return;
        }
        self.look = Look::First;
        let timeouts = &self.live.policy.settings.timeouts;
        let patience = match clock.wait {
            Wait::Login => {
                self.deadline = self.login_by;
                if self.login_by <= Instant::now() {
                    // A client that never stops talking would be looked at for ever.
                    self.look = Look::Second;
                }
                return;
            }
            Wait::Command => timeouts.idle,
            Wait::Reply => timeouts.backend_reply,
            Wait::FinalReply => timeouts.final_reply,
            Wait::UploadGrace | Wait::PendingInput => UPLOAD_GRACE,
            Wait::SinkEnd => SINK_END_PATIENCE,
            Wait::Orphan => {
                self.moved = self.data.moved();
                ORPHAN_PATIENCE
            }
            Wait::Abort => ABORT_PATIENCE,
            Wait::Data => NO_DEADLINE,
        };
        self.deadline = Instant::now() + patience;
    }

    /// Until when a handshake or a dial may take that leads to a login. Whoever has been logged in may do so again, at any
    /// time.
    pub(super) fn login_deadline(&self) -> Instant {
        if self.machine.has_been_logged_in() {
            Instant::now() + self.live.policy.settings.timeouts.login
        } else {
            self.login_by
        }
    }

    /// Waits for the next event.
    pub(super) async fn next_event(&mut self) -> Event {
        loop {
            let at_hand = self
                .happened
                .pop_front()
                .or_else(|| self.event_from_backend())
                .or_else(|| self.event_from_client());
            if let Some(event) = at_hand {
                return event;
            }
            if self.machine.wait() == Wait::PendingInput
                && !self.client_has_said_more()
                && let Some(event) = self.expired().await
            {
                return event;
            }
            let client_fills = async {
                match &mut self.client {
                    Some(client) => client.fill().await,
                    None => std::future::pending().await,
                }
            };
            let backend_fills = async {
                match &mut self.backend {
                    Some(backend) => backend.fill().await,
                    None => std::future::pending().await,
                }
            };
            // In this order, or a peer that never stops sending keeps the session from all that stands below it.
            tokio::select! {
                biased;
                () = sleep_until(self.deadline) => match self.look {
                    Look::First => {
                        self.look = Look::Second;
                        self.read_what_has_arrived().await;
                    }
                    Look::Second => if let Some(event) = self.expired().await {
                        return event;
                    },
                },
                Ok(()) = self.drain.changed() => match *self.drain.borrow_and_update() {
                    Drain::No => {}
                    Drain::Begun => return Event::Drain,
                    Drain::Over => return Event::DrainOver,
                },
                // First what the backend said before its data connection ended: a 200 in front of a 150 is no final reply.
                () = backend_fills => {}
                event = self.data.event() => {
                    if let Event::Prepared(Prepared::NoPort) = event {
                        self.shared.metrics.passive_exhausted();
                    }
                    self.learn_from(&event);
                    return event;
                }
                () = client_fills => {}
            }
        }
    }

    /// Reads what arrived on both control connections while the process was suspended. The deadline alone can't wait for
    /// it: on a busy machine the reactor returns the sockets and the next timer together, and the timer is looked at first.
    async fn read_what_has_arrived(&mut self) {
        sleep(deadline::REACTOR_TURN).await;
        if let Some(backend) = &mut self.backend {
            deadline::at_once(backend.fill()).await;
        }
        if let Some(client) = &mut self.client {
            deadline::at_once(client.fill()).await;
        }
    }

    /// The deadline is over, unless there is a reason for another one.
    async fn expired(&mut self) -> Option<Event> {
        if matches!(self.machine.wait(), Wait::UploadGrace | Wait::PendingInput)
            && let Some(client) = &mut self.client
        {
            // What has come behind an upload's end counts, however late it is before somebody looks.
            deadline::at_once(client.fill()).await;
            if let Some(event) = self.event_from_client() {
                return Some(event);
            }
        }
        if self.machine.wait() == Wait::Orphan && self.data.moved() != self.moved {
            self.moved = self.data.moved();
            self.deadline = Instant::now() + ORPHAN_PATIENCE;
            self.look = Look::First;
            return None;
        }
        self.clock = None;
        Some(Event::Expired)
    }

    /// Whether something of the client's, or its end, has arrived and nobody has read it.
    fn client_has_said_more(&self) -> bool {
        self.client
            .as_ref()
            .is_some_and(ControlConnection::has_unread)
    }

    fn event_from_backend(&mut self) -> Option<Event> {
        match self.backend.as_mut()?.next_reply() {
            Ok(None) => None,
            Ok(Some(reply)) => Some(Event::Reply(reply)),
            Err(reason) => {
                self.summary.backend_lost(self.machine.stage(), reason);
                self.backend = None;
                Some(Event::BackendGone)
            }
        }
    }

    fn event_from_client(&mut self) -> Option<Event> {
        let client = self.client.as_mut()?;
        // Before lines are looked for: every ClientHello holds an LF, the number of the extension supported_groups.
        if !client.stream().is_tls() && client.peek().first() == Some(&TLS_HANDSHAKE_RECORD) {
            if self.client_end == ClientEnd::Open {
                self.summary.tls_without_auth();
            }
            return self.client_is_gone();
        }
        if self.machine.wants_command()
            && let Some(line) = client.next_line()
        {
            return Some(match line {
                Line::TooLong => Event::BadLine(BadLine::TooLong),
                Line::Whole(line) => match Command::parse(line) {
                    Ok(command) => Event::Command(command),
                    Err(bad) => Event::BadLine(BadLine::Malformed(bad)),
                },
            });
        }
        match client.end()?.kind() {
            io::ErrorKind::UnexpectedEof => self.client_has_ended(),
            _ => self.client_is_gone(),
        }
    }

    /// What the machine is told of it, once.
    pub(super) fn client_is_gone(&mut self) -> Option<Event> {
        match std::mem::replace(&mut self.client_end, ClientEnd::ToldGone) {
            ClientEnd::Open | ClientEnd::ToldEnded => Some(Event::ClientGone),
            ClientEnd::ToldGone => None,
        }
    }

    /// The same of the end of its side.
    fn client_has_ended(&mut self) -> Option<Event> {
        if self.client_end != ClientEnd::Open {
            return None;
        }
        self.client_end = ClientEnd::ToldEnded;
        Some(Event::ClientEnded)
    }
}

/// The first byte of a ClientHello: record type 22.
const TLS_HANDSHAKE_RECORD: u8 = 0x16;

/// How long a plaintext upload's end waits for an ABOR or the control connection's end, which travel on another
/// connection: lftp's ^C says ABOR and then closes its data connection as if the file were whole.
const UPLOAD_GRACE: Duration = Duration::from_millis(50);

/// How long a backend may take to close an upload's data connection after its 2xx. Servers close it before, since a close
/// may be what fails; one that doesn't has said all the same that it has the file.
const SINK_END_PATIENCE: Duration = Duration::from_secs(2);

/// How long the rest of an upload under TLS may take after its client has ended its control connection: what it sent before
/// that is in the network.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(2);

/// How long a backend may take to answer ABOR.
const ABORT_PATIENCE: Duration = Duration::from_secs(10);

/// The transfer's task has deadlines for everything it does; this is only far away.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);
