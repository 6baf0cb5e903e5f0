//! The hash over the messages of a handshake, as they went over the wire and not as rustls has read and written them.
//!
//! See [`hello_rewrite`](super::hello_rewrite): what is changed in a ClientHello before rustls reads it, and in a
//! ServerHello after rustls has written it, is undone here.

use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};

use super::hello_rewrite;

/// A hash function whose incremental form is for handshake messages, each given whole.
struct Transcript(&'static dyn Hash);

/// Wraps a cipher suite's hash. Leaks a few bytes: once for each suite in the life of the process.
pub(super) fn wire_transcript(hash: &'static dyn Hash) -> &'static dyn Hash {
    Box::leak(Box::new(Transcript(hash)))
}

impl Hash for Transcript {
    fn start(&self) -> Box<dyn Context> {
        Box::new(Messages {
            hash: self.0.start(),
            fragment: None,
        })
    }

    fn hash(&self, data: &[u8]) -> Output {
        self.0.hash(data)
    }

    fn output_len(&self) -> usize {
        self.0.output_len()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.0.algorithm()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

/// The messages so far.
struct Messages {
    hash: Box<dyn Context>,
    /// The max_fragment_length that the ServerHello answers.
    fragment: Option<u8>,
}

impl Context for Messages {
    fn fork_finish(&self) -> Output {
        self.hash.fork_finish()
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Self {
            hash: self.hash.fork(),
            fragment: self.fragment,
        })
    }

    fn finish(self: Box<Self>) -> Output {
        self.hash.finish()
    }

    fn update(&mut self, message: &[u8]) {
        if let Some((original, fragment)) = hello_rewrite::original(message) {
            self.fragment = fragment;
            self.hash.update(&original);
        } else if let Some(fragment) = self.fragment
            && let Some(answered) = hello_rewrite::answered(message, fragment)
        {
            self.hash.update(&answered);
        } else {
            self.hash.update(message);
        }
    }
}
