//! The buffer of a source under TLS: what arrives, and in front of it what is decrypted.
//!
//! ```text
//! | gathered ->      | arrived, not decrypted ->      |
//! 0              HEADROOM
//! ```
//!
//! A record is longer than its plaintext, so the decrypted bytes never reach the next record.

use std::io;
use std::ops::Range;

/// The largest content of a record, in bytes (RFC 8446 section 5.1).
const HEADROOM: usize = 16 * 1024;

/// Size of the first read: one record, with space for what follows it.
const FIRST_READ: usize = 20 * 1024;

/// A handshake message of 64 KiB, as the longest is that rustls takes, and the records that it comes in.
const MAX_MESSAGE: usize = 96 * 1024;

/// After so many short reads a buffer is halved.
const SHORT_READS: u8 = 32;

/// A buffer below this size grows when a read has filled it: the more bytes are sent at once, the more seldom the receiver
/// has to be woken. The kernel keeps ten times as much for a sender whose receiver is slow.
const LARGEST: usize = 512 * 1024;

/// The buffer of a source under TLS, for received records and decrypted bytes.
pub(super) struct RecordBuffer {
    buffer: Vec<u8>,
    /// The number of decrypted bytes, from the beginning.
    plaintext: usize,
    /// The bytes that have arrived and are not decrypted.
    arrived: Range<usize>,
    reads: Reads,
}

/// How the last reads compared with the space for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// The last one took all of it: there may be more.
    Full,
    Fitting,
    /// This many reads in a row took little of the space.
    Short(u8),
}

impl RecordBuffer {
    /// A buffer with the bytes that have been read already.
    pub(super) fn holding(read: &[u8]) -> Self {
        let mut buffer = vec![0; HEADROOM + FIRST_READ.max(read.len())];
        let arrived = HEADROOM..HEADROOM + read.len();
        buffer[arrived.clone()].copy_from_slice(read);
        Self {
            buffer,
            plaintext: 0,
            arrived,
            reads: Reads::Fitting,
        }
    }

    /// The decrypted bytes.
    pub(super) fn plaintext(&self) -> &[u8] {
        &self.buffer[..self.plaintext]
    }

    pub(super) fn clear_plaintext(&mut self) {
        self.plaintext = 0;
    }

    /// How many bytes have arrived and are not decrypted.
    pub(super) fn undecrypted(&self) -> usize {
        self.arrived.len()
    }

    /// Whether the buffer holds no received bytes that aren't dealt with.
    pub(super) fn is_empty(&self) -> bool {
        self.arrived.is_empty()
    }

    /// The space that the next read may fill; never empty.
    ///
    /// # Errors
    /// If what has arrived is an incomplete message and too long: rustls waits for the end of a message, and a hostile
    /// peer can stretch one of 64 KiB to a GiB by padding.
    pub(super) fn spare(&mut self) -> io::Result<&mut [u8]> {
        if self.arrived.len() > MAX_MESSAGE {
            let error = "a TLS message in more records than it needs";
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        let start = self.plaintext + HEADROOM;
        if self.arrived.start > start {
            let left = self.arrived.len();
            self.buffer.copy_within(self.arrived.clone(), start);
            self.arrived = start..start + left;
        }
        self.resize();
        Ok(&mut self.buffer[self.arrived.end..])
    }

    /// Makes the buffer as large as the peer is fast.
    fn resize(&mut self) {
        let size = self.buffer.len();
        let free = size - self.arrived.end;
        if free < FIRST_READ || (self.reads == Reads::Full && size < LARGEST) {
            self.buffer.resize(size * 2, 0);
            self.reads = Reads::Fitting;
        } else if self.reads == Reads::Short(SHORT_READS)
            && size / 2 >= self.arrived.end + FIRST_READ
        {
            self.buffer.truncate(size / 2);
            self.buffer.shrink_to_fit();
            self.reads = Reads::Fitting;
        }
    }

    /// Records that this many bytes have been read into the spare space.
    pub(super) fn read(&mut self, count: usize) {
        let spare = self.buffer.len() - self.arrived.end;
        self.arrived.end += count;
        self.reads = match self.reads {
            _ if count == spare => Reads::Full,
            Reads::Short(before) if count < spare / 8 => {
                Reads::Short((before + 1).min(SHORT_READS))
            }
            _ if count < spare / 8 => Reads::Short(1),
            _ => Reads::Fitting,
        };
    }

    /// The space for decrypted bytes, and the bytes to decrypt.
    pub(super) fn split(&mut self) -> (PlaintextWriter<'_>, &mut [u8]) {
        let (front, rest) = self.buffer.split_at_mut(self.arrived.start);
        let spare = PlaintextWriter {
            front,
            plaintext: &mut self.plaintext,
        };
        (spare, &mut rest[..self.arrived.len()])
    }

    /// Discards this many of the bytes that have arrived: they are dealt with.
    pub(super) fn discard(&mut self, count: usize) {
        self.arrived.start += count;
    }
}

/// The place where decrypted bytes are gathered.
pub(super) struct PlaintextWriter<'a> {
    front: &'a mut [u8],
    plaintext: &'a mut usize,
}

impl PlaintextWriter<'_> {
    /// # Errors
    /// If the plaintext is longer than the records that it came in, which can't happen.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = *self.plaintext + bytes.len();
        self.front
            .get_mut(*self.plaintext..end)
            .ok_or(io::ErrorKind::InvalidData)?
            .copy_from_slice(bytes);
        *self.plaintext = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_after(
        incoming: &mut RecordBuffer,
        reads: usize,
        count: impl Fn(usize) -> usize,
    ) -> usize {
        for _ in 0..reads {
            let count = count(incoming.spare().unwrap().len());
            incoming.read(count);
            incoming.discard(count);
        }
        incoming.buffer.len()
    }

    #[test]
    fn the_buffer_grows_with_a_fast_peer_and_shrinks_with_a_slow_one() {
        let mut incoming = RecordBuffer::holding(&[]);
        let first = incoming.buffer.len();
        let largest = size_after(&mut incoming, 20, |spare| spare);
        assert!((LARGEST..2 * LARGEST).contains(&largest), "{largest}");
        assert_eq!(size_after(&mut incoming, 1000, |_| 100), first);
    }

    #[test]
    fn a_message_that_has_no_end_is_an_error_before_it_fills_the_memory() {
        let mut incoming = RecordBuffer::holding(&[]);
        let error = loop {
            match incoming.spare() {
                Ok(spare) => {
                    let count = spare.len();
                    incoming.read(count);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(incoming.buffer.len() < LARGEST);
    }
}
