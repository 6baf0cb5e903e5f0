//! Whether the client has connected its data connection, which the command of an upload waits for.
//!
//! Servers truncate the file as soon as they have the command. Sent earlier, it would destroy the file of a client
//! whose connection never arrives: its port was unreachable, it timed out, or it was ambiguous. Clients connect without
//! waiting for the 150; their TLS handshake may wait for it (Python's ftplib, FileZilla), so the connection alone
//! counts.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::TransferContext;
use super::client_connection::{
    ClientArrival, ClientLeg, PassiveClient, PreparedClient, STRANGER_GRACE, connect_to_client,
};
use crate::net::deadline::elapsed;
use crate::passive::DataConnection;
use crate::session::machine::DataFailure;
use crate::tls::client_hello::{self, ClientHello, USUAL_HELLO};

/// The accept, the read, the assignment to the lease, and one to spare.
const TURNS_UNTIL_READ: usize = 4;

/// A connection that is not identified by then may be waiting for the 150.
const SILENCE: Duration = Duration::from_millis(100);

impl ClientLeg {
    /// Waits until the client has connected, in passive mode, or connects to it, in active mode.
    pub async fn connected(&mut self, context: &TransferContext) -> Result<(), DataFailure> {
        match self {
            Self::Accepted(_) | Self::Connected(_) => {}
            Self::Prepared(PreparedClient::Active { to, from }) => {
                let arrived = connect_to_client(*to, *from, context).await?;
                *self = Self::Connected(Some(arrived));
            }
            Self::Prepared(PreparedClient::Passive(client)) => {
                client.decided(context).await?;
                while client.is_read_meanwhile().await {
                    client.decided(context).await?;
                }
                if *client.arrival.borrow() == ClientArrival::Connected {
                    let accepted = client.task.join().await.ok_or(DataFailure::Internal)??;
                    *self = Self::Accepted(Some(accepted));
                }
            }
        }
        Ok(())
    }

    /// Checks that a client that should speak clear text has not begun TLS, as far as it has sent anything: what it
    /// sends later is checked when the server has the command, and has truncated the file.
    pub async fn check_clear_text(&mut self) -> Result<(), DataFailure> {
        if let Self::Accepted(accepted) = self {
            // Without TLS there is no proof by which another connection could replace it.
            let accepted = accepted.take().ok_or(DataFailure::Internal)?;
            let arrived = accepted.into_arrived().ok_or(DataFailure::UnexpectedTls)?;
            *self = Self::Connected(Some(arrived));
        }
        let Self::Connected(Some(DataConnection { stream, read })) = self else {
            return Ok(());
        };
        let mut first_bytes = read.clone();
        if first_bytes.is_empty() {
            first_bytes.resize(USUAL_HELLO, 0);
            let count = tokio::select! {
                biased;
                count = stream.peek(&mut first_bytes) => count.unwrap_or(0),
                () = std::future::ready(()) => 0,
            };
            first_bytes.truncate(count);
        }
        match client_hello::read(&first_bytes) {
            ClientHello::Names(_) => Err(DataFailure::UnexpectedTls),
            ClientHello::Incomplete | ClientHello::Other => Ok(()),
        }
    }
}

impl PassiveClient {
    /// Lets the tasks run that read a connection: one that can be no other lease's counts before it has been read, and what it
    /// has sent may have arrived together with the command. Returns whether that has decided about the connection, and the
    /// lease's task has yet to say so.
    async fn is_read_meanwhile(&self) -> bool {
        for _ in 0..TURNS_UNTIL_READ {
            if *self.arrival.borrow() != ClientArrival::Pending {
                return false;
            }
            // The runtime polls its reactor before it comes back.
            yield_now().await;
        }
        self.unassigned
            .as_ref()
            .is_some_and(|unassigned| !unassigned.is_any())
            && *self.arrival.borrow() == ClientArrival::Pending
    }

    /// Waits until the client has connected, or a connection is there that may be its own.
    async fn decided(&mut self, context: &TransferContext) -> Result<(), DataFailure> {
        let mut arrivals = self.arrival.clone();
        let mut decided = pin!(async {
            let undecided_yet = |arrival: &ClientArrival| {
                matches!(arrival, ClientArrival::Pending | ClientArrival::Refused(_))
            };
            match arrivals
                .wait_for(|arrival| !undecided_yet(arrival))
                .await
                .as_deref()
            {
                Ok(ClientArrival::Failed(failure)) => Err(*failure),
                Ok(_) => Ok(()),
                // The task that accepts the connection has panicked.
                Err(_) => Err(DataFailure::Internal),
            }
        });
        // It may be the client's, which is identified only after the 150.
        let silent = async {
            match &mut self.unassigned {
                Some(unassigned) => unassigned.exclusive_or_silent(SILENCE).await,
                None => std::future::pending().await,
            }
        };
        let stranger = async {
            let failure = refused(&mut self.arrival).await;
            sleep(STRANGER_GRACE).await;
            failure
        };
        tokio::select! {
            biased;
            decided = &mut decided => return decided,
            () = silent => return Ok(()),
            failure = stranger => return Err(failure),
            () = elapsed(context.timeouts.data_connect) => {}
        }
        // The accepting task knows whether another connection was there.
        self.give_up.notify_one();
        decided.await
    }
}

/// Waits until a connection is refused: the failure of the transfer if it was the client's.
pub(super) async fn refused(arrival: &mut watch::Receiver<ClientArrival>) -> DataFailure {
    let refusal = arrival
        .wait_for(|arrival| matches!(arrival, ClientArrival::Refused(_)))
        .await;
    match refusal.map(|arrival| *arrival) {
        Ok(ClientArrival::Refused(failure)) => failure,
        Ok(_) | Err(_) => std::future::pending().await,
    }
}
