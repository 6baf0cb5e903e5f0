//! Commands that arrive during a transfer and have to wait for its end, in order.

use std::collections::VecDeque;

use super::BadLine;
use crate::ftp::command::{Command, Verb};

/// How many lines may wait for the end of a transfer; more stay in the network.
const MAX_QUEUED: usize = 16;

/// See [`Queue::has_room_while_judging`].
const MAX_QUEUED_WHILE_JUDGING: usize = 64;

/// Lines that wait, the oldest in front.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<QueuedLine>);

/// A line of the client's.
#[derive(Debug)]
pub(super) enum QueuedLine {
    Command(Command),
    BadLine(BadLine),
}

impl Queue {
    pub fn push(&mut self, line: QueuedLine) {
        self.0.push_back(line);
    }

    pub fn pop(&mut self) -> Option<QueuedLine> {
        self.0.pop_front()
    }

    /// Takes the next line if it is a NOOP.
    pub fn pop_noop(&mut self) -> bool {
        let is_noop =
            matches!(self.0.front(), Some(QueuedLine::Command(it)) if it.verb() == Verb::Noop);
        if is_noop {
            self.0.pop_front();
        }
        is_noop
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the queue takes one more line. After QUIT it takes none.
    pub fn has_room(&self) -> bool {
        self.0.len() < MAX_QUEUED && !self.holds_quit()
    }

    /// Whether the queue takes one more line while an upload's end is checked: an ABOR, or the end of the connection, may follow
    /// the queued lines, and those count.
    pub fn has_room_while_judging(&self) -> bool {
        self.0.len() < MAX_QUEUED_WHILE_JUDGING
    }

    pub fn holds_quit(&self) -> bool {
        self.0.iter().any(
            |queued| matches!(queued, QueuedLine::Command(command) if command.verb() == Verb::Quit),
        )
    }
}
