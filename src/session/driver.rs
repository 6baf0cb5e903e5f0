//! The loop of a session: executes the machine's decisions, each [`Action`] in its order, then waits for whatever happens next,
//! and for no longer than the machine allows, and hands it over as an [`Event`].

use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep, sleep_until};

use super::data_side::{DataReport, DataSide};
use super::events::SessionEvent;
use super::info::SessionState;
use super::interrupt::{Patience, cut};
use super::machine::{Action, BadLine, Deadline, Ending, Event};
use super::transfer::Order;
use super::{Drain, Session};
use crate::backend::ReplyError;
use crate::ftp::command::{Command, Verb};
use crate::ftp::line::Line;
use crate::net::control::ControlConnection;
use crate::net::{deadline, options};
use crate::tls::client_hello::HANDSHAKE_RECORD;

/// Whether the machine knows that the client's connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientEnd {
    Open,
    /// The machine knows that the client has closed its side.
    EndReported,
    LossReported,
}

/// How often an expired deadline has been checked for late input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeadlineCheck {
    First,
    /// See [`deadline`].
    Second,
}

impl Session {
    /// Runs the session to its end.
    pub(super) async fn run(mut self) {
        let ending = loop {
            self.info.set_state(SessionState::of(&self.machine));
            if let Some(ending) = self.run_actions().await {
                break ending;
            }
            self.arm_deadline();
            let event = self.next_event().await;
            self.machine.handle(event);
            // One read brings up to 2,000 lines, and those that are answered with nothing, or already read from their TLS record,
            // count nothing against the task's budget by themselves.
            consume_budget().await;
        };
        // The sockets of a transfer are reset now, and not only when the goodbyes, which may take a while, have been said.
        self.data = DataSide::None;
        self.events.write(&SessionEvent::Ended {
            ending,
            transfers: &self.transfers,
            resumption: self.tls.resumption(),
        });
        let backend = self.backend.take();
        let client = self.client.take();
        tokio::join!(
            async {
                if let Some(backend) = backend {
                    backend.close().await;
                }
            },
            async {
                if let Some(client) = client {
                    client.close().await;
                }
            }
        );
    }

    /// Executes the machine's actions; returns the session's end, if that is one of them.
    async fn run_actions(&mut self) -> Option<Ending> {
        if self.machine.is_closed() {
            // Before the goodbye: the client may start its next session as soon as it has received it.
            self.permit = None;
        }
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Reply(bytes) => self.reply(&bytes).await,
                Action::StartTls => {
                    if let Some(ending) = self.start_tls().await {
                        return Some(ending);
                    }
                }
                Action::LoginAttempt { command, route } => {
                    self.begin_login(&command, route.as_deref());
                }
                Action::FormerLogin(route) => self.info.set_route(&route),
                Action::Dial => {
                    if let Err(refused) = self.start_dial().await {
                        self.pending_events.push_back(refused);
                    }
                }
                Action::BackendFailed(why) => self.note_backend_failure(why),
                Action::DialNext => self.dial_next().await,
                Action::CommitBackend => self.commit_backend(),
                Action::Authenticate { command, site } => {
                    self.authenticate(site, &command, command.line()).await;
                }
                Action::AuthenticateWithDecoy { command, site } => {
                    let line = self.shared.decoy(&command);
                    self.authenticate(site, &command, &line).await;
                }
                Action::DelayAfterFailure(site) => self.delay_after_failure(site).await,
                Action::Send(line) => self.send(&line).await,
                Action::CloseBackend => self.close_backend(),
                Action::ListenForBackend => self.listen_for_backend().await,
                Action::PrepareData {
                    backend,
                    client,
                    protection,
                } => self.prepare_data(backend, client, protection),
                Action::ReplaceBackendData(backend) => self.replace_backend_data(backend),
                Action::Avoid(methods) => self.avoid(methods),
                Action::OpenData {
                    direction,
                    protection,
                } => self.open_data(direction, protection),
                Action::CommandSent => self.data.order(Order::CommandSent),
                Action::TransferStarted => {
                    self.data.order(Order::TransferStarted);
                    self.acknowledge_preliminary();
                }
                Action::TransferSize(size) => self.info.set_transfer_size(size),
                Action::FinishSink => self.data.order(Order::FinishSink),
                Action::ReportAcceptance => self.report_acceptance(),
                Action::DropData => self.drop_data(),
                Action::RefuseData => self.refuse_data(),
                Action::Record(record) => self.record(record),
                Action::Close(ending) => return Some(ending),
            }
        }
        if !self.machine.is_authenticating() {
            self.attempt = None;
        }
        None
    }

    async fn reply(&mut self, bytes: &[u8]) {
        self.show_reply(bytes);
        let patience = self.patience();
        let Some(client) = &mut self.client else {
            return;
        };
        let event = tokio::select! {
            biased;
            sent = client.send(bytes) => match sent {
                Ok(()) => None,
                Err(_) => self.report_client_loss(),
            },
            // The client may not read what it is sent, and the session can wait for nothing else meanwhile.
            cut = cut(&mut self.registration, &self.drain, patience) => Some(cut.event()),
        };
        self.pending_events.extend(event);
    }

    pub(super) async fn send(&mut self, line: &[u8]) {
        self.show_sent(line);
        let patience = self.patience();
        let Some(backend) = &mut self.backend else {
            return;
        };
        let event = tokio::select! {
            biased;
            sent = backend.send(line) => match sent {
                Ok(()) => return,
                Err(error) => {
                    self.report_backend_loss(self.machine.stage(), &ReplyError::of(&error));
                    Event::BackendGone
                }
            },
            cut = cut(&mut self.registration, &self.drain, patience) => cut.event(),
        };
        // It may have a part of the line.
        self.backend = None;
        self.pending_events.push_back(event);
    }

    /// How long a peer that doesn't read is waited for once the process is to end. What it has not taken of a line is lost then,
    /// so that the session has to end with that.
    fn patience(&self) -> Patience {
        if self.machine.ends_with_drain() {
            Patience::ForClient
        } else {
            Patience::ForTransfer
        }
    }

    /// The backend sends next, and a server that leaves Nagle's algorithm on delays the 226 of a small file until its
    /// 150 has been acknowledged.
    fn acknowledge_preliminary(&self) {
        if let Some(backend) = &self.backend {
            // If the connection is gone, the next read shows it.
            let _ = options::quickack(backend.stream().socket());
        }
    }

    /// Starts the time for what the machine waits for, unless it runs already.
    fn arm_deadline(&mut self) {
        let clock = self.machine.clock();
        if self.clock.replace(clock) == Some(clock) {
            return;
        }
        self.deadline_check = DeadlineCheck::First;
        self.deadline = match self.machine.deadline() {
            Deadline::Login => {
                if self.login_expires_at <= Instant::now() {
                    // A client that never stops sending would otherwise postpone this check without end.
                    self.deadline_check = DeadlineCheck::Second;
                }
                Some(self.login_expires_at)
            }
            Deadline::After(time_limit)
            | Deadline::AfterInput(time_limit)
            | Deadline::OnceInputIsDelivered(time_limit) => Some(Instant::now() + time_limit),
            Deadline::AfterLastByte(time_limit) => {
                self.moved = self.data.moved();
                Some(Instant::now() + time_limit)
            }
            Deadline::Never => None,
        };
    }

    /// Deadline for a handshake or a dial that leads to a login. A client that has been logged in may log in again at
    /// any time.
    pub(super) fn login_deadline(&self) -> Instant {
        if self.machine.has_been_logged_in() {
            Instant::now() + self.snapshot.runtime.settings.timeouts.login
        } else {
            self.login_expires_at
        }
    }

    /// Waits for the next event. In order of priority, or a peer that never stops sending keeps the session from all that
    /// stands below it.
    async fn next_event(&mut self) -> Event {
        loop {
            // Priority 1: results of our own actions, which the machine waits for.
            if let Some(event) = self.pending_events.pop_front() {
                return event;
            }
            // Priority 2: a reply of the backend's that has been read.
            if let Some(event) = self.event_from_backend() {
                return event;
            }
            // Priority 3: a line of the client's that has been read, if the machine takes one, or the connection's end.
            if let Some(event) = self.event_from_client() {
                return event;
            }
            // Priority 4: a deadline that lasts no longer than the client's input.
            if let Deadline::OnceInputIsDelivered(_) = self.machine.deadline()
                && !self.client_has_unread()
                && let Some(event) = self.expired().await
            {
                return event;
            }
            let deadline = self.deadline;
            let deadline_passed = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let client_input = async {
                match &mut self.client {
                    Some(client) => client.fill().await,
                    None => std::future::pending().await,
                }
            };
            let backend_input = async {
                match &mut self.backend {
                    Some(backend) => backend.fill().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // Priority 5: the deadline.
                () = deadline_passed => match self.deadline_check {
                    DeadlineCheck::First => {
                        self.deadline_check = DeadlineCheck::Second;
                        self.read_pending_input().await;
                    }
                    DeadlineCheck::Second => if let Some(event) = self.expired().await {
                        return event;
                    },
                },
                // Priority 6: the end of the process.
                Ok(()) = self.drain.changed() => match *self.drain.borrow_and_update() {
                    Drain::No => {}
                    Drain::Begun => return Event::Drain,
                    Drain::Over => return Event::DrainOver,
                },
                // Priority 7: an operator who ends the session.
                () = self.registration.end_requested() => return Event::Terminate,
                // Priority 8: what the backend sent before its data connection ended: a 200 before a 150 is not a final
                // reply.
                () = backend_input => {}
                // Priority 9: the data connections.
                report = self.data.report() => match report {
                    DataReport::Event(event) => {
                        self.observe_resumption(&event);
                        return event;
                    }
                    DataReport::RunsLong => self.record_running_transfer(),
                },
                // Priority 10: what the client says.
                () = client_input => {}
            }
        }
    }

    /// Reads what arrived on both control connections while the process was suspended. The deadline alone can't wait
    /// for it: on a busy machine the reactor returns the sockets and the next timer together, and the timer is polled
    /// first.
    async fn read_pending_input(&mut self) {
        sleep(deadline::REACTOR_TURN).await;
        if let Some(backend) = &mut self.backend {
            deadline::poll_once(backend.fill()).await;
        }
        if let Some(client) = &mut self.client {
            deadline::poll_once(client.fill()).await;
        }
    }

    /// The deadline is over, unless there is a reason for another one.
    async fn expired(&mut self) -> Option<Event> {
        match self.machine.deadline() {
            Deadline::AfterInput(_) | Deadline::OnceInputIsDelivered(_) => {
                if let Some(client) = &mut self.client {
                    deadline::poll_once(client.fill()).await;
                }
                if let Some(event) = self.event_from_client() {
                    return Some(event);
                }
            }
            Deadline::AfterLastByte(time_limit) if self.data.moved() != self.moved => {
                self.moved = self.data.moved();
                self.deadline = Some(Instant::now() + time_limit);
                self.deadline_check = DeadlineCheck::First;
                return None;
            }
            Deadline::AfterLastByte(_) | Deadline::Login | Deadline::After(_) | Deadline::Never => {
            }
        }
        self.clock = None;
        Some(Event::Expired)
    }

    /// Whether input from the client, or the end of its connection, has arrived and not been read.
    fn client_has_unread(&self) -> bool {
        self.client
            .as_ref()
            .is_some_and(ControlConnection::has_unread)
    }

    fn event_from_backend(&mut self) -> Option<Event> {
        match self.backend.as_mut()?.next_reply() {
            Ok(None) => None,
            Ok(Some(reply)) => {
                self.show_received(reply.bytes());
                Some(Event::Reply(reply))
            }
            Err(reason) => {
                if !self.machine.has_backend_ended() {
                    self.report_backend_loss(self.machine.stage(), &reason);
                }
                self.backend = None;
                Some(Event::BackendGone)
            }
        }
    }

    fn event_from_client(&mut self) -> Option<Event> {
        let client = self.client.as_mut()?;
        // Before looking for lines: every ClientHello contains an LF, the number of the extension supported_groups.
        if !client.stream().is_tls() && client.peek().first() == Some(&HANDSHAKE_RECORD) {
            if self.client_end == ClientEnd::Open {
                self.events.write(&SessionEvent::TlsWithoutAuth);
            }
            return self.report_client_loss();
        }
        if self.machine.wants_command()
            && let Some(line) = client.next_line()
        {
            return Some(match line {
                Line::TooLong => Event::BadLine(BadLine::TooLong),
                Line::Whole(line) => match Command::parse(line) {
                    Ok(command) => {
                        self.show_command(&command);
                        if command.verb() == Verb::User {
                            self.judge_certificate_anew();
                        }
                        Event::Command(command)
                    }
                    Err(bad) => Event::BadLine(BadLine::Malformed(bad)),
                },
            });
        }
        match client.end()?.kind() {
            io::ErrorKind::UnexpectedEof => self.report_client_end(),
            _ => self.report_client_loss(),
        }
    }

    /// Each login asks whether the certificate of the handshake has expired by now.
    fn judge_certificate_anew(&mut self) {
        let certificate = self.info.certificate();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let lapsed = certificate.and_then(|it| it.lapsed(now.unwrap_or_default()));
        if let Some(lapsed) = lapsed.map(Arc::new) {
            self.info.set_certificate(Arc::clone(&lapsed));
            self.machine.certificate_has_lapsed(lapsed);
        }
    }

    /// Reports the loss of the client's connection to the machine, once.
    pub(super) fn report_client_loss(&mut self) -> Option<Event> {
        match std::mem::replace(&mut self.client_end, ClientEnd::LossReported) {
            ClientEnd::Open | ClientEnd::EndReported => Some(Event::ClientGone),
            ClientEnd::LossReported => None,
        }
    }

    /// Reports to the machine that the client has closed its side, once.
    fn report_client_end(&mut self) -> Option<Event> {
        if self.client_end != ClientEnd::Open {
            return None;
        }
        self.client_end = ClientEnd::EndReported;
        Some(Event::ClientEnded)
    }
}
