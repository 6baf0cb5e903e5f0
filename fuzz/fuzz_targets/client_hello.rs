//! The ClientHello on a shared data port: what is known of its first bytes stays so, however they come.

#![no_main]

mod chunks;

use libfuzzer_sys::fuzz_target;
use portcullis::tls::client_hello::{ClientHello, MAX_HELLO, read};

fuzz_target!(|data: &[u8]| {
    let (sizes, bytes) = chunks::split_off_sizes(data);
    as_they_come(bytes);

    // The same message in records of any size.
    let in_one = in_records([bytes].into_iter());
    let in_many = in_records(chunks::cut(bytes, sizes));
    if in_many.len() < MAX_HELLO {
        assert_eq!(read(&in_one), read(&in_many), "cut as {sizes:?}");
    }
    as_they_come(&in_many);
});

/// Reads the bytes as more and more of them are there.
fn as_they_come(bytes: &[u8]) {
    let mut known = ClientHello::Incomplete;
    let ends = (0..bytes.len()).step_by(bytes.len() / 256 + 1);
    for end in ends.chain([bytes.len()]) {
        let hello = read(&bytes[..end]);
        if let ClientHello::Names(names) = &hello {
            assert!(names.len() <= 10, "{} names", names.len());
            assert!(names.iter().map(Vec::len).sum::<usize>() <= end);
        }
        if known != ClientHello::Incomplete {
            assert_eq!(hello, known, "after {end} bytes");
        }
        known = hello;
    }
}

fn in_records<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut records = Vec::new();
    for piece in pieces.flat_map(|piece| piece.chunks(0x4000)) {
        records.extend_from_slice(b"\x16\x03\x01");
        let length = u16::try_from(piece.len()).expect("a record's length");
        records.extend_from_slice(&length.to_be_bytes());
        records.extend_from_slice(piece);
    }
    records
}
