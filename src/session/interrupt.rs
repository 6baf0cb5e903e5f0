//! Events that end a wait outside of the session's loop, where the loop's own events are not heard: the client leaves, an
//! operator ends the session, or the process ends.

use std::time::Duration;

use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tokio::time::timeout;

use super::Drain;
use super::machine::{Ending, Event};
use super::registry::Registration;
use crate::net::control::ControlConnection;

/// How long a client may take, once the drain has begun, for a handshake or a reply after which it is told of the end.
const CLIENT_GRACE: Duration = Duration::from_secs(2);

/// How long a wait goes on once the process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Not at all: it leads to a login, and none is begun any more.
    None,
    /// For as long as a client needs that is there. One that says nothing or reads nothing would hold the end up.
    ForClient,
    /// Until the drain is over.
    ForTransfer,
}

/// Why a session ends now, whatever runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The drain has begun, and what is waited for is no transfer.
    Drain,
    /// The time of the drain is over.
    DrainOver,
    /// An operator ends the session.
    Terminate,
}

impl Cut {
    pub fn event(self) -> Event {
        match self {
            Self::Drain => Event::Drain,
            Self::DrainOver => Event::DrainOver,
            Self::Terminate => Event::Terminate,
        }
    }

    /// How a session ends that has nothing else to decide.
    pub fn ending(self) -> Ending {
        match self {
            Self::Drain | Self::DrainOver => Ending::Drain,
            Self::Terminate => Ending::Terminated,
        }
    }
}

/// Waits until the session is to end now. May be cancelled, and costs nothing before its first poll.
pub(super) async fn cut(
    registration: &mut Registration,
    drain: &watch::Receiver<Drain>,
    patience: Patience,
) -> Cut {
    // A receiver of its own: what it sees, that of the session has yet to see.
    let mut drain = drain.clone();
    tokio::select! {
        biased;
        Ok(cut) = out_of_patience(&mut drain, patience) => cut,
        () = registration.ended() => Cut::Terminate,
    }
}

/// An error if the process can't say any more that it ends.
async fn out_of_patience(
    drain: &mut watch::Receiver<Drain>,
    patience: Patience,
) -> Result<Cut, RecvError> {
    if patience != Patience::ForTransfer {
        drain.wait_for(|drain| *drain != Drain::No).await?;
    }
    let grace = match patience {
        Patience::None => Duration::ZERO,
        Patience::ForClient => CLIENT_GRACE,
        Patience::ForTransfer => Duration::MAX,
    };
    let over = drain.wait_for(|drain| *drain == Drain::Over);
    match timeout(grace, over).await {
        Ok(over) => over.map(|_| Cut::DrainOver),
        Err(_) => Ok(Cut::Drain),
    }
}

/// Waits until there is a reason not to wait for anything else any more, and returns it: the client ends its connection,
/// or the session is to end now. What it waits for leads to a login.
pub(super) async fn interrupted(
    client: &mut Option<ControlConnection>,
    registration: &mut Registration,
    drain: &watch::Receiver<Drain>,
) -> Event {
    tokio::select! {
        biased;
        () = client_closed(client) => Event::ClientGone,
        cut = cut(registration, drain, Patience::None) => cut.event(),
    }
}

/// Waits until the client ends its connection, and takes in what it sends before that.
async fn client_closed(client: &mut Option<ControlConnection>) {
    while let Some(client) = client
        && !client.is_over()
    {
        client.fill().await;
    }
}
