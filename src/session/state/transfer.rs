//! One transfer, from its command to its verdict.
//!
//! The verdict is the promise that Portcullis makes: a transfer is complete only if its source ended cleanly, its sink
//! took every byte, *and* the backend said 2xx. Until all three are known nobody is told that it is: a download's
//! client doesn't get its end of file before the backend's 2xx, an upload's backend doesn't get its own before the
//! client's end was judged. In every other case the sink's leg is reset and the client hears a 4xx or 5xx.
//!
//! A transfer that went wrong on our side has to be ended at the backend, too: ABOR tells it, and a NOOP is the fence.
//! Some servers answer an ABOR once and some twice; whatever comes before the NOOP's 200 belongs to the transfer and the
//! ABOR, so both ends are in step again without guessing. ABOR goes out before the reset, since pyftpdlib takes even a
//! reset for the end of the file. NOOP goes out at the first reply: in a transfer Pure-FTPd throws away whatever has come
//! behind an ABOR.

use super::logged_in::{DataPort, Step};
use super::{Action, Ending, Loss, Machine, Protection, Queued, Record, State, Wait};
use crate::ftp::answer::{self, Answer};
use crate::ftp::command::{Command, Direction, Verb};
use crate::ftp::reply::{Class, Reply};
use crate::observe::metrics::Verdict;

/// What the data connections of a transfer have to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataEvent {
    /// The backend's data connection is open: the command may go out.
    BackendOpen,
    /// The source ended, and everything that came from it is with the sink. `proven` if the end can't be taken for a
    /// lost connection: it was a close_notify, or the backend's, whose reply decides.
    SourceEnded {
        /// False for a plain FIN from a client.
        proven: bool,
    },
    /// After [`Action::ProceedData`]: the sink's leg was ended in order.
    Finished,
    /// It went wrong, and both legs have been reset.
    Failed(DataFailure),
}

/// What went wrong with a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFailure {
    /// The client did not connect in time, or could not be reached in active mode.
    NoClient,
    /// The client's handshake failed.
    ClientHandshake,
    /// The client's handshake was a full one where session reuse is required.
    NotResumed,
    /// The client's connection broke.
    ClientLost,
    /// The client's upload ended without close_notify.
    ClientUnclean,
    /// The client neither sent nor took a byte for too long.
    ClientIdle,
    /// The backend's data port could not be reached.
    NoBackend,
    /// The handshake with the backend failed.
    BackendHandshake,
    /// The backend's connection broke.
    BackendLost,
    /// The backend neither sent nor took a byte for too long.
    BackendIdle,
    /// The backend called an upload complete before its end.
    EarlyCompletion,
    /// The backend's final reply did not come.
    NoFinalReply,
}

impl DataFailure {
    /// Whose fault it was.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::NoClient
            | Self::ClientHandshake
            | Self::NotResumed
            | Self::ClientLost
            | Self::ClientUnclean
            | Self::ClientIdle => Verdict::FailedClient,
            Self::NoBackend
            | Self::BackendHandshake
            | Self::BackendLost
            | Self::BackendIdle
            | Self::EarlyCompletion
            | Self::NoFinalReply => Verdict::FailedBackend,
        }
    }

    /// What the client is told, unless the backend has something better to say.
    fn answer(self) -> Answer {
        match self {
            Self::NoClient => answer::NO_DATA_CONNECTION,
            Self::ClientHandshake => answer::DATA_HANDSHAKE_FAILED,
            Self::NotResumed => answer::REUSE_REQUIRED,
            Self::ClientLost => answer::CLIENT_DATA_LOST,
            Self::ClientUnclean => answer::UNCLEAN_UPLOAD,
            Self::ClientIdle | Self::BackendIdle => answer::DATA_TIMEOUT,
            Self::NoBackend | Self::BackendHandshake => answer::NO_BACKEND_DATA,
            Self::BackendLost => answer::BACKEND_DATA_LOST,
            Self::EarlyCompletion => answer::EARLY_COMPLETION,
            Self::NoFinalReply => answer::NO_FINAL_REPLY,
        }
    }

    /// The word for it in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoClient => "client opened no data connection",
            Self::ClientHandshake => "tls handshake with the client failed",
            Self::NotResumed => "client did not resume its tls session",
            Self::ClientLost => "client's data connection broke",
            Self::ClientUnclean => "client ended without close_notify",
            Self::ClientIdle => "client moved no data",
            Self::NoBackend => "backend's data port not reached",
            Self::BackendHandshake => "tls handshake with the backend failed",
            Self::BackendLost => "backend's data connection broke",
            Self::BackendIdle => "backend moved no data",
            Self::EarlyCompletion => "backend called the upload complete before its end",
            Self::NoFinalReply => "backend gave no final reply",
        }
    }
}

/// The transfer under way.
#[derive(Debug)]
pub(super) struct Transfer {
    command: Command,
    direction: Direction,
    /// A 1yz has come.
    begun: bool,
    /// How many STATs the backend has not answered yet.
    stats: usize,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The command waits for the backend's data connection.
    Opening,
    /// The backend has the command.
    Running(Running),
    /// The backend is brought back into step.
    Aborting(Abort),
}

#[derive(Debug)]
struct Running {
    data: Data,
    /// The backend's 2xx, kept until the data connections have borne it out.
    confirmed: Option<Reply>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Flowing,
    /// A plaintext upload's FIN: it counts if no ABOR and no end of the control connection comes with it.
    Unproven,
    /// The source is done; a download's sink waits for the backend's word.
    SourceEnded,
    /// The sink's leg is being ended.
    Ending,
    Finished,
}

#[derive(Debug)]
struct Abort {
    why: Why,
    fence: Fence,
    replies: Vec<Reply>,
}

/// How far the backend has come on its way back into step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fence {
    /// It had said 2xx already, and was sent nothing.
    Needless,
    /// It was sent ABOR and has not answered.
    Ahead,
    /// It was sent NOOP, too.
    Up,
}

#[derive(Debug, Clone, Copy)]
enum Why {
    /// The client said ABOR and expects two replies.
    Asked,
    /// A data connection failed; the client expects the transfer's one reply.
    Failed(DataFailure),
}

impl Transfer {
    pub fn wait(&self) -> Wait {
        match &self.phase {
            Phase::Opening => Wait::Data,
            Phase::Aborting(_) => Wait::Abort,
            Phase::Running(running) => match (running.data, running.confirmed.is_some()) {
                (Data::Unproven, _) => Wait::Grace,
                (Data::SourceEnded | Data::Finished, false) => Wait::FinalReply,
                (Data::Flowing | Data::Ending | Data::SourceEnded | Data::Finished, _) => {
                    Wait::Data
                }
            },
        }
    }
}

impl Machine {
    pub(super) fn transfer(&self) -> Option<&Transfer> {
        match &self.state {
            State::LoggedIn(logged_in) => match &logged_in.step {
                Step::Transfer(transfer) => Some(transfer),
                _ => None,
            },
            _ => None,
        }
    }

    fn transfer_mut(&mut self) -> Option<&mut Transfer> {
        match &mut self.state {
            State::LoggedIn(logged_in) => match &mut logged_in.step {
                Step::Transfer(transfer) => Some(transfer),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn begin_transfer(&mut self, command: Command) {
        // PROT counts as it stands at the transfer command, not at PASV (RFC 4217 §8).
        let protection = self.security.protection();
        if self.terms.data_required && protection == Protection::Clear {
            // The data port stays: PROT P and the same command again are all it takes.
            return self.answer(answer::PROT_REQUIRED);
        }
        let (State::LoggedIn(logged_in), Some(direction)) =
            (&mut self.state, command.verb().transfer())
        else {
            return;
        };
        if logged_in.data_port == DataPort::None {
            return self.answer(answer::DATA_PORT_FIRST);
        }
        logged_in.data_port = DataPort::None;
        logged_in.step = Step::Transfer(Transfer {
            command,
            direction,
            begun: false,
            stats: 0,
            phase: Phase::Opening,
        });
        self.push(Action::OpenData {
            direction,
            protection,
        });
    }

    pub(super) fn command_during_transfer(&mut self, command: Command) {
        let nothing_queued = self.queue.is_empty();
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        match (command.verb(), &mut transfer.phase) {
            (Verb::Abor, Phase::Opening) => {
                // The backend has not heard of the transfer, so it need not hear of its end.
                self.push(Action::DropData);
                self.answer(answer::TRANSFER_ABORTED);
                self.answer(answer::ABORT_DONE);
                self.end_transfer(Verdict::Aborted, None);
            }
            (Verb::Abor, Phase::Running(_)) => self.abort(Why::Asked),
            (Verb::Abor, Phase::Aborting(abort)) if matches!(abort.why, Why::Failed(_)) => {
                abort.why = Why::Asked;
            }
            // Answered here: many servers are deaf during a transfer, and whose 200 it was would be anyone's guess.
            // Not before what came earlier, or the client takes it for the answer to that.
            (
                Verb::Noop,
                Phase::Opening
                | Phase::Running(_)
                | Phase::Aborting(Abort {
                    why: Why::Failed(_),
                    ..
                }),
            ) if nothing_queued && transfer.stats == 0 => {
                self.answer(answer::NOOP_OK);
            }
            (Verb::Stat, Phase::Running(_))
                if nothing_queued
                    && command.argument().is_empty()
                    && transfer.stats < MAX_STATS =>
            {
                transfer.stats += 1;
                self.send(command.line());
            }
            // In order, when the transfer is over; RFC 959 §4.1.1 says so of QUIT.
            _ => self.queue.push_back(Queued::Command(command)),
        }
    }

    pub(super) fn on_data(&mut self, event: DataEvent) {
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        let upload = transfer.direction == Direction::Upload;
        match (event, &mut transfer.phase) {
            (DataEvent::BackendOpen, Phase::Opening) => {
                transfer.phase = Phase::Running(Running {
                    data: Data::Flowing,
                    confirmed: None,
                });
                let line = transfer.command.line().to_vec();
                self.send(&line);
                self.push(Action::BeginData);
            }
            (DataEvent::SourceEnded { proven }, Phase::Running(running))
                if running.data == Data::Flowing =>
            {
                running.data = match (upload, proven) {
                    (true, false) => Data::Unproven,
                    (true, true) => Data::Ending,
                    (false, _) if running.confirmed.is_some() => Data::Ending,
                    (false, _) => Data::SourceEnded,
                };
                if running.data == Data::Ending {
                    self.push(Action::ProceedData);
                }
            }
            (DataEvent::Finished, Phase::Running(running)) if running.data == Data::Ending => {
                running.data = Data::Finished;
                self.conclude();
            }
            (DataEvent::Failed(failure), Phase::Opening) => {
                self.push(Action::DropData);
                self.answer(failure.answer());
                self.end_transfer(failure.verdict(), Some(failure));
            }
            (DataEvent::Failed(failure), Phase::Running(_)) => self.abort(Why::Failed(failure)),
            // An event of data connections that have been dropped since.
            _ => {}
        }
    }

    pub(super) fn reply_during_transfer(&mut self, reply: Reply) {
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        if transfer.stats > 0 && answers_stat(&reply, transfer.begun) {
            transfer.stats -= 1;
            return self.pass(&reply);
        }
        match &mut transfer.phase {
            // Nothing was asked yet.
            Phase::Opening => self.lose_backend(Loss::Unasked),
            Phase::Aborting(abort) => {
                // A server that calls NOOP's 200 something else has said three things by then.
                let passed = reply.number() == 200 || abort.replies.len() == 2;
                match (reply.class(), abort.fence) {
                    // A late 150.
                    (Class::Preliminary, _) => {}
                    (_, Fence::Up) if passed => self.aborted(),
                    (_, Fence::Up) => abort.replies.push(reply),
                    (_, Fence::Ahead | Fence::Needless) => {
                        abort.replies.push(reply);
                        abort.fence = Fence::Up;
                        self.send(b"NOOP");
                    }
                }
            }
            Phase::Running(running) => match reply.class() {
                Class::Preliminary => {
                    transfer.begun = true;
                    self.pass(&reply);
                }
                // Python's ftplib knows servers that say 200 and then 150. It tells nothing of the transfer's end.
                Class::Completion
                    if reply.number() == 200
                        && !transfer.begun
                        && running.data == Data::Flowing => {}
                // The answer to a STAT that nobody sent says nothing about the transfer.
                Class::Completion if answers_stat(&reply, transfer.begun) => {
                    self.lose_backend(Loss::Misplaced);
                }
                Class::Completion => self.confirmed(reply),
                Class::TransientFailure | Class::PermanentFailure => {
                    let verdict = if transfer.begun {
                        Verdict::FailedBackend
                    } else {
                        Verdict::Refused
                    };
                    // The reply first: a client that is still connecting or sending learns why.
                    self.pass(&reply);
                    self.push(Action::DropData);
                    self.end_transfer(verdict, None);
                }
                Class::Intermediate => self.lose_backend(Loss::Misplaced),
            },
        }
    }

    /// The backend said 2xx.
    fn confirmed(&mut self, reply: Reply) {
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        let upload = transfer.direction == Direction::Upload;
        let Phase::Running(running) = &mut transfer.phase else {
            return;
        };
        if running.confirmed.is_some() {
            return self.lose_backend(Loss::Unasked);
        }
        match running.data {
            Data::Flowing | Data::Unproven | Data::SourceEnded if upload => {
                // It can't have seen the end of a file that we have not ended.
                let failure = DataFailure::EarlyCompletion;
                self.push(Action::DropData);
                self.answer(failure.answer());
                self.end_transfer(failure.verdict(), Some(failure));
            }
            Data::SourceEnded => {
                running.confirmed = Some(reply);
                running.data = Data::Ending;
                self.push(Action::ProceedData);
            }
            // IIS says 226 while the last bytes are still under way.
            Data::Flowing | Data::Unproven | Data::Ending => running.confirmed = Some(reply),
            Data::Finished => {
                running.confirmed = Some(reply);
                self.conclude();
            }
        }
    }

    /// Passes the backend's 2xx on, once the data connections have ended as they should.
    fn conclude(&mut self) {
        let Some(Transfer {
            phase: Phase::Running(running),
            ..
        }) = self.transfer_mut()
        else {
            return;
        };
        if running.data == Data::Finished
            && let Some(reply) = running.confirmed.take()
        {
            self.pass(&reply);
            self.end_transfer(Verdict::Complete, None);
        }
    }

    fn abort(&mut self, why: Why) {
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        let Phase::Running(running) = &transfer.phase else {
            return;
        };
        let backend_is_done = running.confirmed.is_some();
        transfer.phase = Phase::Aborting(Abort {
            why,
            fence: if backend_is_done {
                Fence::Needless
            } else {
                Fence::Ahead
            },
            replies: Vec::new(),
        });
        if !backend_is_done {
            self.send(b"ABOR");
        }
        self.push(Action::DropData);
        if backend_is_done {
            self.aborted();
        }
    }

    /// The backend is back in step: tells the client how the transfer ended.
    fn aborted(&mut self) {
        let Some(Transfer {
            phase: Phase::Aborting(abort),
            ..
        }) = self.transfer_mut()
        else {
            return;
        };
        let why = abort.why;
        let fence = abort.fence;
        let replies = std::mem::take(&mut abort.replies);
        if fence != Fence::Needless {
            self.answer_lost_stats();
        }
        let failure = replies.iter().find(|reply| reply.class().is_failure());
        match why {
            Why::Asked => {
                // RFC 959 §4.1.3: a 426 for the transfer, then a 226 for the ABOR. A 226 for the transfer would speak
                // of bytes that never reached the client.
                match failure {
                    Some(reply) => self.pass(reply),
                    None => self.answer(answer::TRANSFER_ABORTED),
                }
                match replies
                    .iter()
                    .rfind(|reply| reply.class() == Class::Completion)
                {
                    Some(reply) => self.pass(reply),
                    None => self.answer(answer::ABORT_DONE),
                }
                self.end_transfer(Verdict::Aborted, None);
            }
            Why::Failed(fault) => {
                match failure {
                    Some(reply) if fault.verdict() == Verdict::FailedBackend => self.pass(reply),
                    _ => self.answer(fault.answer()),
                }
                self.end_transfer(fault.verdict(), Some(fault));
            }
        }
    }

    /// Answers the STATs that the backend left without an answer, since it has answered what came after them.
    fn answer_lost_stats(&mut self) {
        let lost = self
            .transfer_mut()
            .map_or(0, |transfer| std::mem::take(&mut transfer.stats));
        for _ in 0..lost {
            self.answer(answer::NOT_IMPLEMENTED);
        }
    }

    pub(super) fn transfer_expired(&mut self) {
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        match &mut transfer.phase {
            Phase::Opening => {}
            Phase::Running(running) if running.data == Data::Unproven => {
                running.data = Data::Ending;
                self.push(Action::ProceedData);
            }
            Phase::Running(_) => self.abort(Why::Failed(DataFailure::NoFinalReply)),
            // Both have been answered; the backend does without NOOP.
            Phase::Aborting(abort) if abort.replies.len() >= 2 => self.aborted(),
            Phase::Aborting(_) => self.lose_backend(Loss::Silence),
        }
    }

    /// The session ends in the middle of it: the backend must not keep what it has as a whole file.
    pub(super) fn cut_transfer(&mut self, verdict: Verdict) {
        if let Some(Transfer {
            phase: Phase::Running(running),
            ..
        }) = self.transfer()
            && running.confirmed.is_none()
        {
            self.send(b"ABOR");
        }
        self.push(Action::DropData);
        self.record_cut(verdict);
    }

    /// Records a transfer that ends together with its session.
    pub(super) fn record_cut(&mut self, verdict: Verdict) {
        if let Some(transfer) = self.transfer() {
            let record = Record::Transfer {
                command: transfer.command.clone(),
                direction: transfer.direction,
                verdict,
                failure: None,
            };
            self.push(Action::Record(record));
        }
    }

    /// Gives up the running transfer because the process ends.
    pub fn drain_is_over(&mut self) {
        if matches!(self.state, State::Closed) {
            return;
        }
        if self.transfer().is_some() {
            self.cut_transfer(Verdict::Aborted);
        }
        self.farewell(answer::SHUTTING_DOWN, Ending::Drain);
    }

    fn end_transfer(&mut self, verdict: Verdict, failure: Option<DataFailure>) {
        let State::LoggedIn(logged_in) = &mut self.state else {
            return;
        };
        if let Step::Transfer(transfer) = std::mem::replace(&mut logged_in.step, Step::Ready) {
            if transfer.stats > 0 {
                // Many servers are deaf during a transfer and answer STAT after it.
                logged_in.step = Step::Passed(transfer.stats);
            }
            self.push(Action::Record(Record::Transfer {
                command: transfer.command,
                direction: transfer.direction,
                verdict,
                failure,
            }));
        }
    }
}

/// How many STATs the backend may owe an answer; more wait like other commands. Most servers are deaf during a transfer,
/// and a client that goes on asking would fill the connection to them.
const MAX_STATS: usize = 16;

/// Whether a reply during a transfer can only be meant for a STAT: 211 to 213, or "not here", which before a 1yz would be
/// the transfer's own refusal.
fn answers_stat(reply: &Reply, begun: bool) -> bool {
    match reply.number() {
        211..=213 => true,
        500..=504 => begun,
        _ => false,
    }
}
