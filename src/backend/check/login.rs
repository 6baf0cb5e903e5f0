//! The login of a check, with the account of the site's probe.

use tokio::time::{Instant, timeout};

use super::{Check, CheckError};
use crate::backend::control::{BackendConnection, ReplyError};
use crate::base::budget::Budget;
use crate::config::Probe;
use crate::ftp::command::Verb;
use crate::ftp::reply::{Class, Reply};
use crate::ftp::shown::Repeats;

/// The outcome of a login that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    /// The probe is logged in.
    Done,
    /// No login was tried: the password has been refused not long ago.
    Paused,
}

impl Check<'_> {
    /// Logs in when it is its turn, which is when the stage `began`, unless the password has been refused.
    pub(super) async fn log_in(
        &self,
        connection: &mut BackendConnection,
        probe: &Probe,
        total: Budget,
        began: &mut Instant,
    ) -> Result<Login, CheckError> {
        // One password of the site at a time: of a wrong one, which the site's servers may all look up in one directory,
        // the others have to hear before they send it, too.
        let time_limit = total.left();
        let turn = timeout(time_limit, self.logins.queue.enter());
        let turn = turn.await.map_err(|_| CheckError::NoTurn(time_limit))?;
        *began = Instant::now();
        if !self.logins.pause.allows(probe, began.into_std()) {
            return Ok(Login::Paused);
        }
        let login = self.user_and_pass(connection, probe, total).await;
        match &login {
            Ok(()) => self.logins.pause.accepted(),
            Err(error) if error.is_refusal() => {
                let now = Instant::now().into_std();
                if self.logins.pause.refused(probe, now) {
                    self.backend.warn_of_refused_probe(probe, error);
                }
            }
            Err(_) => {}
        }
        drop(turn);
        login.map(|()| Login::Done)
    }

    async fn user_and_pass(
        &self,
        connection: &mut BackendConnection,
        probe: &Probe,
        total: Budget,
    ) -> Result<(), CheckError> {
        // Its greeting has logged every client in.
        if connection.welcome.is_some() {
            return Ok(());
        }
        let user = self
            .login_step(connection, "USER", probe.user.as_bytes(), total)
            .await?;
        match user.class() {
            Class::Completion => return Ok(()),
            Class::Intermediate => {}
            _ => return Err(self.refused(Verb::User, &user, &Repeats::Nothing)),
        }
        let pass = self
            .login_step(connection, "PASS", probe.password.secret.expose(), total)
            .await?;
        match pass.class() {
            Class::Completion => Ok(()),
            _ => {
                let password = Repeats::Secret(probe.password.secret.clone());
                Err(self.refused(Verb::Pass, &pass, &password))
            }
        }
    }

    async fn login_step(
        &self,
        connection: &mut BackendConnection,
        command: &'static str,
        argument: &[u8],
        total: Budget,
    ) -> Result<Reply, CheckError> {
        let line = [command.as_bytes(), b" ", argument, b"\r\n"].concat();
        let replied = connection.ask(&line, self.budget(total)).await;
        let reason = match replied {
            Ok(reply) => return Ok(reply),
            // Parts of a reply aren't shown either: they may repeat the password.
            Err(ReplyError::Incomplete(time_limit, _)) => ReplyError::TimedOut(time_limit),
            Err(reason) => reason,
        };
        Err(CheckError::Reply { command, reason })
    }

    fn refused(&self, command: Verb, reply: &Reply, repeats: &Repeats) -> CheckError {
        CheckError::Login {
            command: match command {
                Verb::User => "USER",
                _ => "PASS",
            },
            said: repeats.reply(reply),
            class: reply.class(),
            hint: self.backend.refusal_hint(command, reply),
        }
    }
}
