//! Rewrites ClientHellos that rustls would refuse, or whose extensions it ignores.
//!
//! rustls refuses a server name that is no host name (`ftp.example.com:990`, `[::1]`, a name with a blank); every other
//! library ignores such names, and some clients send the configured address unchanged. Nor does it support
//! max_fragment_length (RFC 6066 §4) or record_size_limit (RFC 8449), by which small devices limit the length of
//! records.
//!
//! Before rustls reads a ClientHello, [`rewrite`] assigns such extensions types that it doesn't know, and says how long
//! records may be. Answers that rustls can't give, [`HelloRewrite::answer`] puts into its ServerHello in TLS 1.2; in TLS 1.3, where
//! that place is encrypted, records are short without an answer. The two ends agree on what they have said by a
//! hash over all handshake messages as they went over the wire. So `transcript` undoes both changes where rustls hashes
//! its messages, by `original` and `answered`; `on_the_wire` does where a client has signed all of them.
//!
//! Pure: bytes in, bytes out. Malformed input stays as it is, for rustls to refuse.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::ServerName;

use super::client_hello::HANDSHAKE_RECORD;

// Message types (RFC 5246 §7.4).
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;

// Types of extensions.
const SERVER_NAME: u16 = 0;
const MAX_FRAGMENT_LENGTH: u16 = 1;
const RECORD_SIZE_LIMIT: u16 = 28;
const SUPPORTED_VERSIONS: u16 = 43;

/// The one type of names in server_name.
const HOST_NAME: u8 = 0;

// For private use (RFC 8446 §11): no client sends them.
const HIDDEN_SERVER_NAME: u16 = 0xFF50;
const HIDDEN_MAX_FRAGMENT_LENGTH: u16 = 0xFF51;

/// The least that record_size_limit may ask for (RFC 8449 §4), and what a record holds without it.
const MIN_LIMIT: usize = 64;
const MAX_RECORD: usize = 16 * 1024;

/// The rewritten parts of a ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HelloRewrite {
    /// How much a record for this client may hold.
    longest: Option<usize>,
    /// The value of max_fragment_length, for the ServerHello.
    fragment: Option<u8>,
}

/// Rewrites a ClientHello so that rustls accepts it. `records` are the first bytes of a connection, as they came.
pub fn rewrite(records: &mut [u8]) -> HelloRewrite {
    let mut rewritten = HelloRewrite::default();
    let message = handshake_bytes(records);
    for extension in client_extensions(&message) {
        let content = &message[extension.content.clone()];
        let hidden = match extension.kind {
            SERVER_NAME if !is_server_name(content) => HIDDEN_SERVER_NAME,
            MAX_FRAGMENT_LENGTH => {
                let Some((fragment, length)) = fragment_length(content) else {
                    continue;
                };
                rewritten.fragment = Some(fragment);
                rewritten.limit(length);
                HIDDEN_MAX_FRAGMENT_LENGTH
            }
            RECORD_SIZE_LIMIT => {
                if let [high, low] = content {
                    let limit = usize::from(u16::from_be_bytes([*high, *low]));
                    if (MIN_LIMIT..MAX_RECORD).contains(&limit) {
                        // TLS 1.3 counts a byte that says what the record holds.
                        rewritten.limit(limit - 1);
                    }
                }
                continue;
            }
            _ => continue,
        };
        for (offset, byte) in (extension.at..).zip(hidden.to_be_bytes()) {
            if let Some(raw) = raw_offset(records, offset) {
                records[raw] = byte;
            }
        }
    }
    rewritten
}

impl HelloRewrite {
    /// A record may hold no more than that. Of a client that asks for both limits, the smaller one is kept, whichever comes first.
    fn limit(&mut self, longest: usize) {
        let former = self.longest.unwrap_or(usize::MAX);
        self.longest = Some(longest.min(former));
    }

    /// The configuration for this client.
    pub fn config(&self, config: Arc<ServerConfig>) -> Arc<ServerConfig> {
        let Some(longest) = self.longest else {
            return config;
        };
        let mut config = ServerConfig::clone(&config);
        // rustls counts the header, too.
        config.max_fragment_size = Some(longest + RECORD_HEADER);
        Arc::new(config)
    }

    /// Adds the answer to the records that begin with the ServerHello for a rewritten ClientHello.
    pub fn answer(&self, records: &mut Vec<u8>) {
        let Some(fragment) = self.fragment else {
            return;
        };
        let Some((header, payload)) = first_record(records) else {
            return;
        };
        let Some((hello, rest)) = whole_message(payload) else {
            return;
        };
        let Some(answered) = answered(hello, fragment) else {
            return;
        };
        let mut changed = record(header, &answered);
        if !rest.is_empty() {
            changed.extend(record(header, rest));
        }
        records.splice(..RECORD_HEADER + payload.len(), changed);
    }
}

/// A rewritten ClientHello as the client sent it, and the max_fragment_length that its ServerHello answers; `None` if it is
/// none.
pub(super) fn original(message: &[u8]) -> Option<(Vec<u8>, Option<u8>)> {
    let mut original = None;
    let mut fragment = None;
    for extension in client_extensions(message) {
        let kind = match extension.kind {
            HIDDEN_SERVER_NAME => SERVER_NAME,
            HIDDEN_MAX_FRAGMENT_LENGTH => {
                fragment = message.get(extension.content.start).copied();
                MAX_FRAGMENT_LENGTH
            }
            _ => continue,
        };
        let original: &mut Vec<u8> = original.get_or_insert_with(|| message.to_vec());
        original[extension.at..extension.at + 2].copy_from_slice(&kind.to_be_bytes());
    }
    Some((original?, fragment))
}

/// A ServerHello with the answer to max_fragment_length; `None` if it is one of TLS 1.3, where the extension is not
/// allowed.
pub(super) fn answered(hello: &[u8], fragment: u8) -> Option<Vec<u8>> {
    if hello.first() != Some(&SERVER_HELLO) {
        return None;
    }
    let block = server_extensions_at(hello)?;
    let mut extensions = hello.get(block + 2..).unwrap_or_default().to_vec();
    let is_tls13 = extensions_in(&extensions, 0..extensions.len())
        .any(|extension| extension.kind == SUPPORTED_VERSIONS);
    if is_tls13 {
        return None;
    }
    extensions.extend(MAX_FRAGMENT_LENGTH.to_be_bytes());
    extensions.extend([0, 1, fragment]);
    let length = u16::try_from(extensions.len()).ok()?;
    let mut answered = [&hello[..block], &length.to_be_bytes(), &extensions].concat();
    let length = u32::try_from(answered.len() - MESSAGE_HEADER).ok()?;
    answered[1..MESSAGE_HEADER].copy_from_slice(&length.to_be_bytes()[1..]);
    Some(answered)
}

/// The messages of a handshake in TLS 1.2, as they went over the wire and not as rustls has read and written them: that is what
/// a client signs with the key of its certificate.
pub(super) fn on_the_wire(messages: &[u8]) -> Cow<'_, [u8]> {
    let hello = whole_message(messages);
    let rewritten = hello.and_then(|(hello, rest)| Some((original(hello)?, rest)));
    let Some(((mut wire, fragment), rest)) = rewritten else {
        return Cow::Borrowed(messages);
    };
    let answer = fragment.and_then(|fragment| {
        let (hello, behind) = whole_message(rest)?;
        Some((answered(hello, fragment)?, behind))
    });
    match answer {
        Some((hello, behind)) => {
            wire.extend(hello);
            wire.extend_from_slice(behind);
        }
        None => wire.extend_from_slice(rest),
    }
    Cow::Owned(wire)
}

/// Whether rustls takes this for the content of a server_name extension, be it as an address that it ignores.
fn is_server_name(content: &[u8]) -> bool {
    let Some((list_length, list)) = content.split_first_chunk::<2>() else {
        return false;
    };
    let [HOST_NAME, high, low, name @ ..] = list else {
        return false;
    };
    usize::from(u16::from_be_bytes(*list_length)) == list.len()
        && usize::from(u16::from_be_bytes([*high, *low])) == name.len()
        && ServerName::try_from(name).is_ok()
}

/// The value of max_fragment_length and what it means.
fn fragment_length(content: &[u8]) -> Option<(u8, usize)> {
    match content {
        [value @ 1..=4] => Some((*value, 1 << (8 + value))),
        _ => None,
    }
}

/// An extension in a message.
struct Extension {
    kind: u16,
    /// The offset of its type in the message.
    at: usize,
    content: Range<usize>,
}

/// The extensions of a ClientHello, as far as they are there; none of anything else. The last one may be cut short:
/// that is how a pre-shared key's binder is computed.
fn client_extensions(message: &[u8]) -> impl Iterator<Item = Extension> {
    let block = (message.first() == Some(&CLIENT_HELLO))
        .then(|| {
            let after_random = MESSAGE_HEADER + 2 + 32;
            let after_session = after_vector::<1>(message, after_random)?;
            let after_suites = after_vector::<2>(message, after_session)?;
            after_vector::<1>(message, after_suites)
        })
        .flatten();
    let start = block.map_or(message.len(), |block| block + 2);
    extensions_in(message, start..message.len())
}

fn extensions_in(message: &[u8], within: Range<usize>) -> impl Iterator<Item = Extension> {
    let mut next = within.start;
    std::iter::from_fn(move || {
        let at = next;
        let header = message.get(at..within.end)?.first_chunk::<4>()?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let content = at + 4..at + 4 + length;
        message.get(content.clone())?;
        next = content.end;
        Some(Extension { kind, at, content })
    })
}

/// The offset of the block of extensions in a ServerHello, beginning with its length.
fn server_extensions_at(hello: &[u8]) -> Option<usize> {
    let after_session = after_vector::<1>(hello, MESSAGE_HEADER + 2 + 32)?;
    let block = after_session + 2 + 1;
    (block <= hello.len()).then_some(block)
}

/// The offset behind the vector at `at`, whose length is a number of `N` bytes.
fn after_vector<const N: usize>(message: &[u8], at: usize) -> Option<usize> {
    let length = message.get(at..at + N)?;
    let length = length
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let after = at + N + length;
    (after <= message.len()).then_some(after)
}

/// The header and the payload of the first record, if it is one of the handshake and whole.
fn first_record(records: &[u8]) -> Option<([u8; RECORD_HEADER], &[u8])> {
    let header = records.first_chunk::<RECORD_HEADER>()?;
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    let payload = records.get(RECORD_HEADER..RECORD_HEADER + length)?;
    (header[0] == HANDSHAKE_RECORD).then_some((*header, payload))
}

/// The first message, and what stands behind it.
fn whole_message(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    payload.split_at_checked(after_vector::<3>(payload, 1)?)
}

/// A record of the same kind with another payload, which is no longer than before.
fn record(header: [u8; RECORD_HEADER], payload: &[u8]) -> Vec<u8> {
    let [kind, major, minor, ..] = header;
    let [.., high, low] = payload.len().to_be_bytes();
    [&[kind, major, minor, high, low], payload].concat()
}

/// The payloads of all whole records at the beginning, joined.
fn handshake_bytes(records: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(records.len());
    let mut rest = records;
    while let Some((_, payload)) = first_record(rest) {
        message.extend_from_slice(payload);
        rest = &rest[RECORD_HEADER + payload.len()..];
    }
    message
}

/// The offset in `records` of the byte that is at `offset` in [`handshake_bytes`].
fn raw_offset(records: &[u8], offset: usize) -> Option<usize> {
    let (mut offset, mut start) = (offset, 0);
    loop {
        let (_, payload) = first_record(&records[start..])?;
        if offset < payload.len() {
            return Some(start + RECORD_HEADER + offset);
        }
        offset -= payload.len();
        start += RECORD_HEADER + payload.len();
    }
}

#[cfg(test)]
mod tests;
