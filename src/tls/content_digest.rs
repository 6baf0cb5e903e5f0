//! Whether files that are loaded together hold what they held before.

use aws_lc_rs::digest;

use super::certificate::sha256_array;

/// Distinguishes two contents of files that are loaded together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// The digest of these files, in their order.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for bytes in files {
            // The length in front, so that no byte can move from one file to the other unnoticed.
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        }
        Self(sha256_array(context.finish()))
    }
}
