//! The conclusion from a failure about the backend: one decision for logins, for checks, and for the monitor that dials an
//! ejected one.

use std::io;

use super::check::CheckError;
use super::control::ReplyError;
use super::dial::DialError;
use crate::base::shortage::is_shortage;
use crate::ftp::reply::{Class, Reply};

/// The party at fault for a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// The backend doesn't work.
    Backend,
    /// The backend has enough to do: 421, or another 4yz to its greeting, USER or PASS.
    Busy,
    /// This machine or its name server is at fault: no descriptor or port is left, or the name server doesn't answer, or it was
    /// not the check's turn.
    Local,
    /// The account or the password of the site's checks is wrong, and the backend works as far as that.
    CheckAccount,
}

impl DialError {
    /// The party at fault for this error.
    pub(super) fn failure_cause(&self) -> FailureCause {
        match self {
            Self::Dns(_) => FailureCause::Local,
            Self::Connect(error) => of_io(error),
            Self::Greeting(ReplyError::Rejected(reply))
            | Self::User(ReplyError::Rejected(reply))
                if reply.class() == Class::TransientFailure =>
            {
                FailureCause::Busy
            }
            Self::Greeting(reason)
            | Self::Auth(reason)
            | Self::Protection { reason, .. }
            | Self::User(reason) => of_reply(reason),
            Self::Injected
            | Self::Handshake(_)
            | Self::HandshakeTimeout(_)
            | Self::ClientCertificate { .. } => FailureCause::Backend,
        }
    }
}

impl CheckError {
    /// The party at fault for this error.
    pub fn failure_cause(&self) -> FailureCause {
        match self {
            Self::Dial(error) => error.failure_cause(),
            Self::Login { class, .. } => match class {
                Class::PermanentFailure => FailureCause::CheckAccount,
                Class::TransientFailure => FailureCause::Busy,
                _ => FailureCause::Backend,
            },
            Self::NoTurn(_) | Self::Discovery(_) | Self::DiscoveryTimeout(_) => FailureCause::Local,
            Self::DataConnect { cause, .. } | Self::DataAccept { cause, .. } => of_io(cause),
            Self::Reply { reason, .. } | Self::NoPort(reason) | Self::List(reason) => {
                of_reply(reason)
            }
            Self::Unprotected
            | Self::DataBroke(_)
            | Self::DataHandshake(_)
            | Self::DataTimeout(_) => FailureCause::Backend,
        }
    }
}

/// 421 may be the reply to any command (RFC 959 §5.4).
fn of_reply(reason: &ReplyError) -> FailureCause {
    let is_busy = |reply: &Reply| reply.number() == 421;
    match reason {
        ReplyError::Rejected(reply) if is_busy(reply) => FailureCause::Busy,
        _ => FailureCause::Backend,
    }
}

/// The cause of a connection that was not made: [`FailureCause::Local`] if this machine has nothing left to connect with.
fn of_io(error: &io::Error) -> FailureCause {
    match is_shortage(error) {
        true => FailureCause::Local,
        false => FailureCause::Backend,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::line::Line;
    use crate::ftp::reply::ReplyParser;
    use rustix::io::Errno;

    fn rejected(line: &'static [u8]) -> ReplyError {
        let reply = ReplyParser::default().push(Line::Whole(line.into()));
        ReplyError::Rejected(reply.expect("a reply").expect("a whole one"))
    }

    #[test]
    fn only_faults_of_the_backend_count_against_it() {
        let connect = |errno: Errno| DialError::Connect(errno.into()).failure_cause();
        assert_eq!(connect(Errno::CONNREFUSED), FailureCause::Backend);
        assert_eq!(connect(Errno::MFILE), FailureCause::Local);
        let dns = DialError::Dns(io::ErrorKind::TimedOut.into());
        assert_eq!(dns.failure_cause(), FailureCause::Local);
    }

    #[test]
    fn a_backend_that_says_421_to_whatever_it_is_sent_is_busy() {
        let full = || rejected(b"421 too many users");
        let command = "PBSZ 0";
        for error in [
            DialError::Greeting(full()),
            DialError::Auth(full()),
            DialError::Protection {
                command,
                reason: full(),
            },
            DialError::User(full()),
        ] {
            assert_eq!(error.failure_cause(), FailureCause::Busy, "{error}");
            assert_eq!(CheckError::from(error).failure_cause(), FailureCause::Busy);
        }
        let no_tls = DialError::Auth(rejected(b"431 no certificate here"));
        assert_eq!(no_tls.failure_cause(), FailureCause::Backend);
    }
}
