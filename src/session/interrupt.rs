//! Events that end a wait outside of the session's loop, where the loop's own events are not heard: the client leaves, an
//! operator ends the session, or the process ends.

use tokio::sync::watch;

use super::Drain;
use super::machine::{Ending, Event};
use super::registry::Registration;
use crate::net::control::ControlConnection;

/// The reason why a session ends now, whatever runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The time of the drain is over.
    DrainOver,
    /// An operator ends the session.
    Terminate,
}

impl Cut {
    pub fn event(self) -> Event {
        match self {
            Self::DrainOver => Event::DrainOver,
            Self::Terminate => Event::Terminate,
        }
    }

    /// How a session ends that has nothing else to decide.
    pub fn ending(self) -> Ending {
        match self {
            Self::DrainOver => Ending::Drain,
            Self::Terminate => Ending::Terminated,
        }
    }
}

/// Waits until the session is to end now. May be cancelled, and costs nothing before its first poll.
pub(super) async fn cut(registration: &mut Registration, drain: &watch::Receiver<Drain>) -> Cut {
    // A receiver of its own: what it sees, that of the session has yet to see.
    let mut drain = drain.clone();
    tokio::select! {
        biased;
        Ok(_) = drain.wait_for(|drain| *drain == Drain::Over) => Cut::DrainOver,
        () = registration.ended() => Cut::Terminate,
    }
}

/// Waits until there is a reason not to wait for anything else any more, and returns it: the client ends its connection,
/// or the session is to end now.
pub(super) async fn interrupted(
    client: &mut Option<ControlConnection>,
    registration: &mut Registration,
    drain: &watch::Receiver<Drain>,
) -> Event {
    tokio::select! {
        biased;
        () = client_closed(client) => Event::ClientGone,
        cut = cut(registration, drain) => cut.event(),
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
