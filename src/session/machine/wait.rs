//! Reasons for which a session waits, for how long, and how often its time begins anew.

use std::time::Duration;

use crate::config::Timeouts;

/// How long a plaintext upload's end waits for an ABOR or the control connection's end, which travel on another connection:
/// lftp's ^C sends ABOR and then closes its data connection as if the file were whole.
const UPLOAD_GRACE: Duration = Duration::from_millis(50);

/// How long a backend may take to close an upload's data connection after its 2xx. Servers close it before, since a close may be
/// what fails; one that doesn't has confirmed all the same that it has the file.
const SINK_END_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the rest of an upload under TLS may take after its client has ended its control connection: what it sent before
/// that is in the network.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a backend may take to answer ABOR.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the backend may take to answer a command other than a transfer's once the process is to end.
const DRAIN_REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the session waits for, which decides how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The login, counted from accept.
    Login,
    /// The backend's reply to USER, while another backend could take over.
    UserReply(Duration),
    /// The client's next command.
    Command,
    /// The backend's reply to a command.
    Reply,
    /// The same once the process is to end.
    ReplyWhileDraining,
    /// The backend's reply after the data connections are done.
    FinalReply,
    /// An ABOR, or the end of the control connection, behind a plaintext upload's end.
    UploadGrace,
    /// An ABOR, or the end of the control connection, after the end of an upload under TLS: waited for only until all input that
    /// the client has sent already is handled.
    PendingInput,
    /// The backend's end of an upload's data connection, behind its 2xx.
    SinkEnd,
    /// The close_notify of an upload whose client has ended its control connection. The time begins anew with each byte.
    Orphan,
    /// The backend's replies to ABOR.
    Abort,
    /// The data connections, which have deadlines of their own.
    Data,
}

/// When the driver is to report [`Event::Expired`](super::Event::Expired), unless the [`Clock`] changes before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// When the time for the login is over, which is counted from accept.
    Login,
    /// When this time is over.
    After(Duration),
    /// When this time is over, and after all input of the client up to then is delivered, however late that is.
    AfterInput(Duration),
    /// As soon as all input of the client is delivered, and at the latest when this time is over.
    OnceInputIsDelivered(Duration),
    /// When this time is over since the transfer's last byte.
    AfterLastByte(Duration),
    /// Without a time limit.
    Never,
}

/// The reason for which the session waits, and since when: the time runs on until this value changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The reason for the wait.
    pub(super) wait: Wait,
    /// Since which command of the client's or, outside of transfers, of ours to the backend.
    pub(super) restarts: u64,
}

impl Wait {
    pub(super) fn deadline(self, timeouts: &Timeouts) -> Deadline {
        match self {
            Self::Login => Deadline::Login,
            Self::UserReply(time) => Deadline::After(time),
            Self::Command => Deadline::After(timeouts.idle),
            Self::Reply => Deadline::After(timeouts.backend_reply),
            Self::ReplyWhileDraining => {
                Deadline::After(timeouts.backend_reply.min(DRAIN_REPLY_TIMEOUT))
            }
            Self::FinalReply => Deadline::After(timeouts.final_reply),
            Self::UploadGrace => Deadline::AfterInput(UPLOAD_GRACE),
            Self::PendingInput => Deadline::OnceInputIsDelivered(UPLOAD_GRACE),
            Self::SinkEnd => Deadline::After(SINK_END_TIMEOUT),
            Self::Orphan => Deadline::AfterLastByte(ORPHAN_TIMEOUT),
            Self::Abort => Deadline::After(ABORT_TIMEOUT),
            Self::Data => Deadline::Never,
        }
    }
}
