//! Whether the client has connected its data connection, which the command of an upload waits for.
//!
//! Servers truncate the file as soon as they have the command. Sent earlier, it would destroy the file of a client
//! whose connection never arrives: its port was unreachable, it timed out, or it was ambiguous. Clients connect without
//! waiting for the 150; their TLS handshake may wait for it (Python's ftplib, FileZilla), so the connection alone
//! counts.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::legs::{PATIENCE_AFTER_A_STRANGER, connect_to_client};
use super::{Legs, PreparedClient};
use crate::net::deadline::elapsed;
use crate::passive::DataConnection;
use crate::session::machine::DataFailure;
use crate::tls::client_hello::{self, ClientHello};

/// State of the client's connection to its passive port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// No connection, or none that has been identified.
    Empty,
    /// A connection that was refused: the failure of the transfer if it was the client's.
    TurnedAway(DataFailure),
    /// The client.
    Arrived,
    /// No connection will come.
    Closed(DataFailure),
}

impl PreparedClient {
    /// Waits until the client has connected, in passive mode, or connects to it, in active mode.
    pub async fn connected(&mut self, legs: &Legs) -> Result<(), DataFailure> {
        match self {
            Self::Connected(_) => Ok(()),
            Self::Active { to, from } => {
                let arrived = connect_to_client(*to, *from, legs).await?;
                *self = Self::Connected(Some(arrived));
                Ok(())
            }
            Self::Passive {
                door,
                undecided,
                given_up,
                ..
            } => {
                let mut seen = door.clone();
                let mut decided = pin!(async {
                    let open = |door: &Door| matches!(door, Door::Empty | Door::TurnedAway(_));
                    match seen.wait_for(|door| !open(door)).await.as_deref() {
                        Ok(Door::Closed(failure)) => Err(*failure),
                        Ok(_) => Ok(()),
                        // The task that accepts the connection has panicked.
                        Err(_) => Err(DataFailure::Internal),
                    }
                });
                // It may be the client's, which is identified only after the 150.
                let silent = async {
                    match undecided {
                        Some(undecided) => undecided.any_silent(SILENCE).await,
                        None => std::future::pending().await,
                    }
                };
                let stranger = async {
                    let failure = turned_away(door).await;
                    sleep(PATIENCE_AFTER_A_STRANGER).await;
                    failure
                };
                tokio::select! {
                    biased;
                    decided = &mut decided => return decided,
                    () = silent => return Ok(()),
                    failure = stranger => return Err(failure),
                    () = elapsed(legs.timeouts.data_connect) => {}
                }
                // The accepting task knows whether another connection was there.
                given_up.notify_one();
                decided.await
            }
        }
    }
}

impl PreparedClient {
    /// Checks that a client that should speak clear text has not begun TLS, as far as it has sent anything: what it
    /// sends later is checked when the server has the command, and has truncated the file.
    pub async fn speaks_no_tls(&mut self) -> Result<(), DataFailure> {
        let guest = match self {
            Self::Passive { arrival, door, .. } if *door.borrow() == Door::Arrived => {
                Some(arrival.join().await.ok_or(DataFailure::Internal)??)
            }
            _ => None,
        };
        if let Some(guest) = guest {
            // Without TLS there is no proof by which another connection could replace it.
            let arrived = guest.into_arrived().ok_or(DataFailure::ClientSpeaksTls)?;
            *self = Self::Connected(Some(arrived));
        }
        let Self::Connected(Some(DataConnection { stream, read })) = self else {
            return Ok(());
        };
        let mut said = read.clone();
        if said.is_empty() {
            said.resize(USUAL_HELLO, 0);
            let count = tokio::select! {
                biased;
                count = stream.peek(&mut said) => count.unwrap_or(0),
                () = std::future::ready(()) => 0,
            };
            said.truncate(count);
        }
        match client_hello::read(&said) {
            ClientHello::Names(_) => Err(DataFailure::ClientSpeaksTls),
            ClientHello::Incomplete | ClientHello::Other => Ok(()),
        }
    }
}

/// Waits until a connection is refused: the failure of the transfer if it was the client's.
pub(super) async fn turned_away(door: &mut watch::Receiver<Door>) -> DataFailure {
    let came = door
        .wait_for(|door| matches!(door, Door::TurnedAway(_)))
        .await;
    match came.map(|door| *door) {
        Ok(Door::TurnedAway(failure)) => failure,
        Ok(_) | Err(_) => std::future::pending().await,
    }
}

/// Bytes that hold nearly every ClientHello.
const USUAL_HELLO: usize = 4096;

/// A connection that is not identified by then may be waiting for the 150.
const SILENCE: Duration = Duration::from_millis(100);
