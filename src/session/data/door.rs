//! Whether the client's data connection is there: what the command of an upload waits for.
//!
//! Servers empty the file as soon as they have the command. Sent earlier, it costs a client its file whose connection never
//! comes: its port was not reachable, its time over, or it was told from others too late. Clients connect without waiting
//! for the 150; their TLS handshake may wait for it (Python's ftplib, FileZilla), so it is the connection that counts.

use std::time::Duration;

use tokio::time::sleep;

use super::legs::{PATIENCE_AFTER_A_STRANGER, connect_to_client};
use super::{Legs, PreparedClient};
use crate::session::state::DataFailure;

/// Who has come to the port that the client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Nobody, or nobody who has said whose connection it is.
    Empty,
    /// Somebody who has been turned away.
    TurnedAway,
    /// The client.
    Arrived,
    /// Nobody will.
    Closed(DataFailure),
}

impl PreparedClient {
    /// Waits until the client's data connection is there, in passive mode, or makes it, in active mode.
    pub async fn connected(&mut self, legs: &Legs) -> Result<(), DataFailure> {
        match self {
            Self::Connected(_) => Ok(()),
            Self::Active { to, from } => {
                let arrived = connect_to_client(*to, *from, legs).await?;
                *self = Self::Connected(Some(arrived));
                Ok(())
            }
            Self::Passive {
                door, undecided, ..
            } => {
                let mut seen = door.clone();
                let decided = async {
                    let open = |door: &Door| matches!(door, Door::Empty | Door::TurnedAway);
                    match seen.wait_for(|door| !open(door)).await.as_deref() {
                        Ok(Door::Closed(failure)) => Err(*failure),
                        Ok(_) => Ok(()),
                        // The task that waited at the door has panicked.
                        Err(_) => Err(DataFailure::Internal),
                    }
                };
                // It may be the client, who says so only after the 150.
                let silent = async {
                    match undecided {
                        Some(undecided) => undecided.somebody_silent(SILENCE).await,
                        None => std::future::pending().await,
                    }
                };
                let stranger = async {
                    if door
                        .wait_for(|door| *door == Door::TurnedAway)
                        .await
                        .is_err()
                    {
                        std::future::pending::<()>().await;
                    }
                    sleep(PATIENCE_AFTER_A_STRANGER).await;
                };
                tokio::select! {
                    biased;
                    decided = decided => decided,
                    () = silent => Ok(()),
                    () = stranger => Err(DataFailure::NotResumed),
                    () = sleep(legs.timeouts.data_connect) => Err(DataFailure::NoClient),
                }
            }
        }
    }
}

/// Who has not said whose connection it is by then may be waiting for the 150.
const SILENCE: Duration = Duration::from_millis(100);
