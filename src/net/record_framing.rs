//! The boundaries of TLS records (RFC 8446 §5.1), found without looking into them.

/// The type, the version and the length.
pub const HEADER: usize = 5;

/// How far a stream of records has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordFraming {
    header: [u8; HEADER],
    /// The bytes of the header that have come.
    header_length: usize,
    /// The bytes of the record's body that are still to come.
    body_left: usize,
}

impl RecordFraming {
    /// Follows these bytes, which have come next.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let taken = self.body_left.min(bytes.len());
                self.body_left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = (HEADER - self.header_length).min(bytes.len());
            self.header[self.header_length..][..taken].copy_from_slice(&bytes[..taken]);
            self.header_length += taken;
            bytes = &bytes[taken..];
            if self.header_length == HEADER {
                self.body_left = body_length(self.header);
                self.header_length = 0;
            }
        }
    }

    /// Whether the last record is not whole yet.
    pub fn is_within_record(&self) -> bool {
        self.header_length > 0 || self.body_left > 0
    }
}

/// The length of the record's body, by this header.
pub fn body_length(header: [u8; HEADER]) -> usize {
    let [.., high, low] = header;
    usize::from(u16::from_be_bytes([high, low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_in_pieces_of_any_size_end_where_they_do() {
        let mut records = vec![23, 3, 3, 0, 3, b'a', b'b', b'c'];
        records.extend([23, 3, 3, 0, 0]);
        records.extend([21, 3, 3, 1, 0]);
        records.extend([0; 256]);
        let ends = [0, 8, 13, records.len()];
        for piece in [1, 2, 5, 7, records.len()] {
            let mut framing = RecordFraming::default();
            let mut come = 0;
            for bytes in records.chunks(piece) {
                framing.advance(bytes);
                come += bytes.len();
                assert_eq!(framing.is_within_record(), !ends.contains(&come), "{come}");
            }
        }
    }
}
