//! The buffer of a source under TLS: what arrives, and in front of it what is decrypted.
//!
//! ```text
//! | gathered ->      | arrived, not decrypted ->      |
//! 0              HEADROOM
//! ```
//!
//! A record takes more room than what it holds, so the gathered bytes never reach the record that is next.

use std::io;
use std::ops::Range;

/// The buffer.
pub(super) struct Incoming {
    buffer: Vec<u8>,
    /// How many decrypted bytes there are, from the beginning.
    gathered: usize,
    /// What has arrived and is not decrypted.
    arrived: Range<usize>,
    /// Whether the last read took all the room: then there may be more.
    filled: bool,
}

impl Incoming {
    /// With what has been read already.
    pub(super) fn holding(read: &[u8]) -> Self {
        let mut buffer = vec![0; HEADROOM + FIRST_READ.max(read.len())];
        let arrived = HEADROOM..HEADROOM + read.len();
        buffer[arrived.clone()].copy_from_slice(read);
        Self {
            buffer,
            gathered: 0,
            arrived,
            filled: false,
        }
    }

    /// What has been decrypted.
    pub(super) fn gathered(&self) -> &[u8] {
        &self.buffer[..self.gathered]
    }

    pub(super) fn forget_gathered(&mut self) {
        self.gathered = 0;
    }

    /// Where the next read may put its bytes. Never nothing: rustls takes no message of more than 64 KiB, and leaves no
    /// whole record.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let start = self.gathered + HEADROOM;
        if self.arrived.start > start {
            let left = self.arrived.len();
            self.buffer.copy_within(self.arrived.clone(), start);
            self.arrived = start..start + left;
        }
        let free = self.buffer.len() - self.arrived.end;
        if free < FIRST_READ || (self.filled && self.buffer.len() < LARGEST) {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        &mut self.buffer[self.arrived.end..]
    }

    /// So much has been read into the room.
    pub(super) fn arrived(&mut self, count: usize) {
        self.arrived.end += count;
        self.filled = self.arrived.end == self.buffer.len();
    }

    /// The room for decrypted bytes, and what is to be decrypted.
    pub(super) fn split(&mut self) -> (Room<'_>, &mut [u8]) {
        let (front, rest) = self.buffer.split_at_mut(self.arrived.start);
        let room = Room {
            front,
            gathered: &mut self.gathered,
        };
        (room, &mut rest[..self.arrived.len()])
    }

    /// So much of what has arrived is dealt with.
    pub(super) fn discard(&mut self, count: usize) {
        self.arrived.start += count;
    }
}

/// Where decrypted bytes are gathered.
pub(super) struct Room<'a> {
    front: &'a mut [u8],
    gathered: &'a mut usize,
}

impl Room<'_> {
    /// # Errors
    /// If the bytes need more room than the records that they came in, which can't be.
    pub(super) fn gather(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = *self.gathered + bytes.len();
        self.front
            .get_mut(*self.gathered..end)
            .ok_or(io::ErrorKind::InvalidData)?
            .copy_from_slice(bytes);
        *self.gathered = end;
        Ok(())
    }
}

/// What the largest record holds (RFC 8446 section 5.1).
const HEADROOM: usize = 16 * 1024;

/// One record, with room for what follows it.
const FIRST_READ: usize = 20 * 1024;

/// A buffer below this size grows when a read has filled it: the more bytes are sent at once, the more seldom the receiver
/// has to be woken. The kernel keeps ten times as much for a sender whose receiver is slow.
const LARGEST: usize = 512 * 1024;
