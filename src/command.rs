//! Commands to the process while it runs.

use tokio::sync::{mpsc, oneshot};

/// Takes the result of a reload: the reason if it was refused. Dropped if there was none.
pub type ReloadAnswer = oneshot::Sender<Result<(), String>>;

/// A request to the process, from a signal or an operator.
#[derive(Debug)]
pub enum Command {
    /// Put the whole configuration in force anew. Answered when that is done or refused, with the reason.
    Reload(ReloadAnswer),
    /// Let the running transfers finish and end. Once more: end at once.
    Shutdown,
}

/// Waits for a request to end; what is done with a reload that is asked for by then is up to the caller.
pub async fn shutdown_requested(
    commands: &mut mpsc::Receiver<Command>,
    mut on_reload: impl FnMut(ReloadAnswer),
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Reload(answer) => on_reload(answer),
            Command::Shutdown => return,
        }
    }
    // None can come any more.
    std::future::pending().await
}
