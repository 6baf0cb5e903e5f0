//! File content for tests: looks random, is the same every time, and can be compared by its hash.

use sha2::{Digest, Sha256};

/// `length` bytes that depend only on `seed` (xorshift64*), so that no two files of a test are alike and nothing repeats.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut content = Vec::with_capacity(length + 8);
    while content.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        content.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    content.truncate(length);
    content
}

/// SHA-256 in lower case hexadecimal: short enough to read when an assertion fails.
pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
