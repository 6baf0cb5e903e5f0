//! Signals of the operating system, as commands to the process.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::command::Command;
use crate::observe::transfer_log::TransferLogs;

/// The signals that would end the process without this: SIGHUP, SIGTERM and SIGINT, and those that operators send by the habit
/// of other programs. SIGUSR1 is that for log files; SIGUSR2 and SIGALRM mean nothing here.
#[derive(Debug)]
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    reopen: Signal,
    ignored: [(&'static str, Signal); 2],
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reopen: signal(SignalKind::user_defined1())?,
            ignored: [
                ("SIGUSR2", signal(SignalKind::user_defined2())?),
                ("SIGALRM", signal(SignalKind::alarm())?),
            ],
        })
    }

    /// Sends a command for each signal, for as long as the process takes any; has the transfer logs opened anew at once, which
    /// waits for no other command.
    pub async fn send_to(self, commands: mpsc::Sender<Command>, logs: Arc<TransferLogs>) {
        let [usr2, alarm] = self.ignored;
        tokio::join!(
            reload(self.hangup, &commands),
            shut_down(self.terminate, self.interrupt, &commands),
            reopen(self.reopen, &logs),
            ignore(usr2),
            ignore(alarm),
        );
    }
}

/// Reloads one at a time: however many signals arrive during a reload, one more follows.
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

async fn reopen(mut signal: Signal, logs: &TransferLogs) {
    while signal.recv().await.is_some() {
        logs.reopen();
        tracing::info!("reopening the transfer logs");
    }
}

async fn ignore((name, mut signal): (&'static str, Signal)) {
    while signal.recv().await.is_some() {
        tracing::info!(signal = name, "signal ignored");
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
