//! Secrets, which no log line, message or debug output may show.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// A password. Only [`Secret::expose`] shows it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Makes a secret of this content.
    pub fn new(content: Vec<u8>) -> Self {
        Self(content)
    }

    /// A secret that can't be guessed: 32 hexadecimal digits. The keys of a hasher come from the operating system's source of
    /// random numbers.
    pub fn random() -> Self {
        let [one, other] = std::array::from_fn(|_| RandomState::new().hash_one(()));
        Self(format!("{one:016x}{other:016x}").into_bytes())
    }

    /// The content, to be sent and for no other use.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_show_it() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose(), b"hunter2");
    }
}
