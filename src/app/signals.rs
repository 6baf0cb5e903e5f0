//! Signals of the operating system, as commands to the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::command::Command;

/// SIGHUP, SIGTERM and SIGINT, which would end the process without this.
#[derive(Debug)]
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Sends a command for each signal, for as long as the process takes any.
    pub async fn send_to(self, commands: mpsc::Sender<Command>) {
        tokio::join!(
            reload(self.hangup, &commands),
            shut_down(self.terminate, self.interrupt, &commands)
        );
    }
}

/// One at a time: however many signals arrive during a reload, one more follows.
async fn reload(mut hangup: Signal, commands: &mpsc::Sender<Command>) {
    while hangup.recv().await.is_some() {
        let (done, answer) = oneshot::channel();
        if commands.send(Command::Reload(done)).await.is_err() {
            return;
        }
        // No answer: the process is about to end.
        let _ = answer.await;
    }
}

async fn shut_down(mut terminate: Signal, mut interrupt: Signal, commands: &mpsc::Sender<Command>) {
    loop {
        tokio::select! {
            Some(()) = terminate.recv() => {}
            Some(()) = interrupt.recv() => {}
            else => return,
        }
        if commands.send(Command::Shutdown).await.is_err() {
            return;
        }
    }
}
