//! What a session waits for, and how often its time begins anew.

/// What the session waits for, which decides how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The login, counted from accept.
    Login,
    /// The client's next command.
    Command,
    /// The backend's reply to a command.
    Reply,
    /// The backend's reply after the data connections are done.
    FinalReply,
    /// An ABOR, or the end of the control connection, behind a plaintext upload's end.
    UploadGrace,
    /// The same behind the end of an upload under TLS, but no longer than for what the client has said already.
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

/// What the session waits for, and since when: the time runs on until this is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// What for.
    pub wait: Wait,
    /// Since which command of the client's or, outside of transfers, of ours to the backend.
    pub(super) turn: u64,
}
