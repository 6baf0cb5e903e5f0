//! What the process may be asked to do while it runs.

use tokio::sync::oneshot;

/// A request to the process, from a signal or an operator.
#[derive(Debug)]
pub enum Command {
    /// Put the whole configuration in force anew. Answered when that is done or refused, with the reason.
    Reload(oneshot::Sender<Result<(), String>>),
    /// Let the running transfers finish and end. Once more: end at once.
    Shutdown,
}
