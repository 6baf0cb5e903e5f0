//! Why a command gets no answer, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::base::text::rounded;

/// The reason why there is no answer to show.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The socket's file doesn't exist.
    #[error(
        "there is no socket {0}: Portcullis isn't running, or its configuration doesn't say `admin: {{socket: {0}}}`; where it \
         names another one, add `--socket PATH`"
    )]
    NoSocket(PathBuf),
    /// No process accepts connections at the socket.
    #[error(
        "nothing listens on {0}: Portcullis has ended, or it isn't its socket; `--socket PATH` names the one of the key \
         `admin.socket`"
    )]
    NothingListens(PathBuf),
    /// The caller may not connect.
    #[error(
        "may not connect to {0}: the socket is open to its owner and its group alone, which `ls -l {0}` shows; join the group, \
         or run the command by sudo"
    )]
    Denied(PathBuf),
    /// The connection failed for another reason.
    #[error("can't connect to {0}: {1}; `--socket PATH` names another socket")]
    Connect(PathBuf, #[source] io::Error),
    /// The answer isn't there in time.
    #[error(
        "no answer from {path} within {after}: the process is busy or stopped; its log may say more",
        after = rounded(after)
    )]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke off, or what came is no HTTP.
    #[error(
        "{0} gave no complete answer: {1}; either the process has ended, or it isn't the socket of Portcullis"
    )]
    Broken(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is longer than what is read.
    #[error("the answer of {0} is longer than 64 MiB: ask for less of it, such as one site's")]
    TooLong(PathBuf),
    /// HTTP, but none of Portcullis' answers.
    #[error("what {0} answers isn't from the admin socket of Portcullis: {1}")]
    Foreign(PathBuf, Unreadable),
    /// The process refuses, with this text.
    #[error("{0}")]
    Refused(String),
    /// The output can't be written.
    #[error("stdout: {0}")]
    Output(#[source] io::Error),
    /// The command's own runtime.
    #[error("the runtime can't be started: {0}")]
    Runtime(#[source] io::Error),
}

/// The fault of an answer.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// No JSON, or of another form.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Something that belongs into it isn't there.
    #[error("it has no `{0}`")]
    Missing(&'static str),
    /// The answer is of a later version of the API.
    #[error(
        "it is of version {0} of the API, and this program reads version 1: use the program that the process was started from"
    )]
    Version(u64),
}

impl ControlError {
    /// The error of connecting to a socket.
    pub(super) fn connecting(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoSocket(path),
            io::ErrorKind::ConnectionRefused => Self::NothingListens(path),
            io::ErrorKind::PermissionDenied => Self::Denied(path),
            _ => Self::Connect(path, error),
        }
    }
}
