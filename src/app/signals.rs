//! Signals of the operating system: reload, or shut down.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

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

    /// Waits for the next one. May be cancelled.
    pub async fn next(&mut self) -> ProcessSignal {
        tokio::select! {
            Some(()) = self.hangup.recv() => ProcessSignal::Reload,
            Some(()) = self.terminate.recv() => ProcessSignal::Shutdown,
            Some(()) = self.interrupt.recv() => ProcessSignal::Shutdown,
        }
    }

    /// Waits for SIGTERM or SIGINT.
    pub async fn shutdown(&mut self) {
        while self.next().await != ProcessSignal::Shutdown {}
    }
}

/// What a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessSignal {
    Reload,
    Shutdown,
}
