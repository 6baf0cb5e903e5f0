//! The steps of a probe, in their order.

use super::Goal;
use super::record::{AgreedTls, AskedPort, DataPeer, Finding, PortAnswer, ProbeOutcome, Skipped};
use super::stages::Stages;
use crate::backend::check::list::Listing;
use crate::backend::check::login::Login;
use crate::backend::check::{Check, CheckError, LONGEST};
use crate::backend::control::{BackendConnection, ReplyError};
use crate::backend::data::{DataEndpoint, ReadyConnection};
use crate::backend::dial::{self, Depth};
use crate::base::budget::Budget;
use crate::base::text::escape;
use crate::ftp::features;
use crate::ftp::reply::{Class, Reply};
use crate::ftp::server::BackendProtection;
use crate::net::proxy_header::Origin;
use crate::net::stream::Stream;
use crate::outcome::ProbeStage;

/// How many features are kept. Servers have some thirty.
const MOST_FEATURES: usize = 64;

impl Check<'_> {
    pub(super) async fn probe_stages(&self, goal: &Goal, stages: &mut Stages<'_>) {
        let total = Budget::new(LONGEST);
        let (backend, resolver, origin) = (self.backend, self.resolver, Origin::Proxy);
        let budget = self.budget(total);
        let dialled = dial::dial_to(Depth::Ready, backend, resolver, origin, budget, stages).await;
        let mut connection = match dialled {
            Ok(connection) => connection,
            Err(error) => {
                let stage = ProbeStage::from(error.stage());
                return stages.failed(stage, error.into(), backend);
            }
        };
        match self
            .probe_commands(&mut connection, goal, total, stages)
            .await
        {
            Ok(()) => {}
            Err((stage, error)) => stages.failed(stage, error, backend),
        }
        // Whether it hears that or not, the connection ends.
        let _ = connection.send(b"QUIT\r\n").await;
        connection.close().await;
    }

    /// Makes the stages after the dial.
    async fn probe_commands(
        &self,
        connection: &mut BackendConnection,
        goal: &Goal,
        total: Budget,
        stages: &mut Stages<'_>,
    ) -> Result<(), (ProbeStage, CheckError)> {
        let mut logged_in = false;
        if let Some(account) = goal.account() {
            let login = self
                .log_in(connection, account, total, &mut stages.began)
                .await
                .map_err(|error| (ProbeStage::Login, error))?;
            match login {
                Login::Done => {
                    logged_in = true;
                    stages.found(ProbeStage::Login, Finding::Login(account.user.clone()));
                }
                Login::Paused => stages.password_refused = true,
            }
        }
        self.ask_for_features(connection, logged_in, total, stages)
            .await?;
        if !logged_in {
            return Ok(());
        }
        if connection.protection == BackendProtection::AfterLogin {
            self.settle_protection(connection, total)
                .await
                .map_err(|error| (ProbeStage::Protection, error))?;
            let finding = Finding::Protection(BackendProtection::AfterLogin);
            stages.found(ProbeStage::Protection, finding);
        }
        let endpoint = self.ask_for_ports(connection, total, stages).await?;
        if let Goal::List { directory, .. } = goal {
            let peer = match &endpoint {
                DataEndpoint::Passive { to, .. } => DataPeer::To(*to),
                DataEndpoint::Active { .. } => DataPeer::From,
            };
            let data = self
                .connect_data(endpoint, total)
                .await
                .map_err(|error| (ProbeStage::Data, error))?;
            stages.found(ProbeStage::Data, Finding::Data(peer));
            let directory = directory.as_deref();
            self.list_with_stages(connection, data, directory, total, stages)
                .await?;
        }
        Ok(())
    }

    async fn ask_for_features(
        &self,
        connection: &mut BackendConnection,
        logged_in: bool,
        total: Budget,
        stages: &mut Stages<'_>,
    ) -> Result<(), (ProbeStage, CheckError)> {
        let asked = connection.ask(b"FEAT\r\n", self.budget(total)).await;
        let reply = asked.map_err(|reason| {
            let command = "FEAT";
            (ProbeStage::Features, CheckError::Reply { command, reason })
        })?;
        let outcome = match (reply.number(), reply.class()) {
            (421, _) => {
                let (command, reason) = ("FEAT", ReplyError::Rejected(reply));
                return Err((ProbeStage::Features, CheckError::Reply { command, reason }));
            }
            (_, Class::Completion) => ProbeOutcome::Done(Finding::Features(Some(shown(&reply)))),
            (530, _) if !logged_in => ProbeOutcome::Skipped(Skipped::WantsLogin),
            _ => ProbeOutcome::Done(Finding::Features(None)),
        };
        stages.end(ProbeStage::Features, outcome);
        Ok(())
    }

    /// Asks for data connections by every method that sessions may use; returns the endpoint of the last one that works, since a
    /// server forgets the one before it.
    async fn ask_for_ports(
        &self,
        connection: &mut BackendConnection,
        total: Budget,
        stages: &mut Stages<'_>,
    ) -> Result<DataEndpoint, (ProbeStage, CheckError)> {
        let mut asked = Vec::new();
        let mut endpoint = None;
        let mut methods = self.methods(connection);
        while let Some(method) = methods.next() {
            let answer = self.ask_by(method, connection, total).await;
            methods.note(&answer);
            let answer = answer.map(|agreed| {
                let answer = PortAnswer::of(&agreed);
                endpoint = Some(agreed);
                answer
            });
            asked.push(AskedPort { method, answer });
            if total.left().is_zero() {
                break;
            }
        }
        match endpoint {
            Some(endpoint) => {
                stages.found(ProbeStage::Passive, Finding::Ports(asked));
                Ok(endpoint)
            }
            None => {
                let last = asked.pop().and_then(|asked| asked.answer.err());
                // There is a method at least, and none of them has worked.
                let error = last.unwrap_or(CheckError::NoPort(ReplyError::Closed));
                Err((ProbeStage::Passive, error))
            }
        }
    }

    async fn list_with_stages(
        &self,
        connection: &mut BackendConnection,
        data: ReadyConnection,
        directory: Option<&str>,
        total: Budget,
        stages: &mut Stages<'_>,
    ) -> Result<(), (ProbeStage, CheckError)> {
        let ready = |stream: &Stream| {
            if let Some(tls) = AgreedTls::of(stream) {
                let resumed = stream.is_resumed();
                let finding = Finding::DataTls { tls, resumed };
                stages.found(ProbeStage::DataHandshake, finding);
            }
        };
        let listed = self.list(connection, data, directory, total, ready).await;
        let Listing { bytes, reply } = listed.map_err(|error| match error {
            CheckError::DataHandshake(_) | CheckError::DataTimeout(_) => {
                (ProbeStage::DataHandshake, error)
            }
            _ => (ProbeStage::List, error),
        })?;
        stages.found(ProbeStage::List, Finding::Listing { bytes, reply });
        Ok(())
    }
}

/// The features in a reply, for people.
fn shown(reply: &Reply) -> Vec<String> {
    let features = features::theirs(reply).take(MOST_FEATURES);
    features.map(escape).collect()
}
