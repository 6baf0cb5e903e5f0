//! Notes on the certificates that clients see.

use std::collections::HashMap;
use std::time::SystemTime;

use super::{Note, NoteCode};
use crate::base::text::escape_path;
use crate::config::{HostPattern, MoreCertificates, Settings};
use crate::tls::{
    CertificateError, CertificateOrigin, CertificatePair, CertificateSet, ChainBegin, ChainEnd,
    ConfiguredCertificate, Date, KeyCompatibility, Source, renewal_is_due,
};

/// How many names are worth a note each: two directories may hold the same thousand.
const MAX_NAMES_TWICE: usize = 20;

/// A certificate that is served, with its name in notes.
struct Served<'a> {
    source: &'a Source,
    pair: &'a CertificatePair,
    /// `the certificate`, where there is no other.
    called: String,
}

/// A certificate of a directory, or a directory of them, that can't be served, which costs no other.
pub fn not_served(error: &CertificateError) -> Note {
    Note::warning(
        NoteCode::CertificateNotServed,
        format!("{error}; it is not served, and all others are"),
    )
}

/// The notes on certificates that end before long.
pub fn expiring(certificates: &CertificateSet, now: SystemTime) -> impl Iterator<Item = Note> {
    served(certificates)
        .into_iter()
        .flat_map(move |one| [expires_soon(&one, now), chain_expires(&one, now)])
        .flatten()
}

/// The notes about the certificate of this name.
pub fn about(certificates: &CertificateSet, name: &str, now: SystemTime) -> Vec<Note> {
    let all = served(certificates);
    let one = all.iter().find(|one| *one.source.name == *name);
    one.map_or_else(Vec::new, |one| notes_on(one, certificates, now))
}

/// The notes about the certificates that clients are shown.
pub(super) fn notes(certificates: &CertificateSet, now: SystemTime) -> Vec<Note> {
    let all = served(certificates);
    let mut notes: Vec<Note> = all
        .iter()
        .flat_map(|one| notes_on(one, certificates, now))
        .collect();
    notes.extend(not_ordered(certificates));
    notes.extend(names_twice(&all).take(MAX_NAMES_TWICE));
    notes.extend(keys_shared(&all));
    notes
}

/// The directories in which there is nothing to serve.
pub(super) fn empty_directories(settings: &Settings, certificates: &CertificateSet) -> Vec<Note> {
    let directories = settings.tls.more.iter().filter_map(|more| match more {
        MoreCertificates::Pair { .. } => None,
        MoreCertificates::Directory { directory, layout } => Some((directory, layout)),
    });
    let is_empty = |directory| {
        let found = certificates.entries().filter(|entry| {
            let found_in = entry.source.directory.as_deref();
            found_in == Some(directory)
        });
        found.count() == 0
    };
    let empty = directories.filter(|(directory, _)| {
        is_empty(directory.as_path()) && certificates.fault_of(directory).is_none()
    });
    empty
        .map(|(directory, layout)| {
            Note::hint(
                NoteCode::CertificateDirectoryEmpty,
                format!(
                    "the directory {} has no certificate beside the central one as `layout: {}` looks for them",
                    escape_path(directory),
                    layout.as_str()
                ),
            )
        })
        .collect()
}

/// The note about a certificate that is ordered, and isn't there yet.
fn not_ordered(certificates: &CertificateSet) -> Option<Note> {
    let is_missing =
        |entry: &&ConfiguredCertificate| entry.pair().is_none() && entry.refusal().is_none();
    let entry = certificates.entries().find(is_missing)?;
    let until_then = match (certificates.is_empty(), certificates.lacks_default()) {
        (true, _) => "; until then TLS handshakes fail",
        (false, true) => {
            "; until then TLS handshakes fail for clients that name no other certificate"
        }
        (false, false) => "",
    };
    Some(Note::hint(
        NoteCode::CertificateNotOrdered,
        format!(
            "the certificate {} is not there yet: it is ordered while Portcullis runs{until_then}",
            escape_path(&entry.source.certificate)
        ),
    ))
}

fn served(certificates: &CertificateSet) -> Vec<Served<'_>> {
    let entries = certificates.entries().enumerate();
    let served = entries.filter_map(|(place, entry)| {
        Some(Served {
            source: &entry.source,
            pair: entry.pair()?,
            called: match place {
                0 => "the certificate".to_owned(),
                _ => format!("the certificate {}", entry.source.name),
            },
        })
    });
    served.collect()
}

fn expires_soon(one: &Served<'_>, now: SystemTime) -> Option<Note> {
    let CertificatePair {
        not_before,
        not_after,
        ..
    } = *one.pair;
    renewal_is_due(not_before, not_after, now).then(|| {
        let expires = match not_after > now {
            true => "expires soon,",
            false => "expired",
        };
        let remedy = match one.source.origin {
            CertificateOrigin::Operator => "renew it",
            CertificateOrigin::Ordered => {
                "it should have been renewed by an order; `portcullis status` and the log show why orders fail"
            }
        };
        Note::warning(
            NoteCode::CertificateExpiresSoon,
            format!(
                "the certificate {} {expires} on {}: {remedy}",
                escape_path(&one.source.certificate),
                Date(not_after)
            ),
        )
    })
}

/// Each certificate of a chain has a date of its own.
fn chain_expires(one: &Served<'_>, now: SystemTime) -> Option<Note> {
    let ChainEnd {
        position,
        not_before,
        not_after,
    } = one.pair.chain_end?;
    renewal_is_due(not_before, not_after, now).then(|| {
        let expires = if not_after > now { "expires" } else { "expired" };
        Note::warning(
            NoteCode::CertificateChainExpires,
            format!(
                "{} has a chain that ends before its certificate: certificate {position} in it {expires} on {}, and clients that \
                 verify refuse it from then on; get a current chain from the issuer",
                escape_path(&one.source.certificate),
                Date(not_after)
            ),
        )
    })
}

fn chain_has_not_begun(one: &Served<'_>, now: SystemTime) -> Option<Note> {
    let begin = one.pair.chain_begin;
    let ChainBegin {
        position,
        not_before,
    } = begin.filter(|begin| begin.not_before > now)?;
    Some(Note::warning(
        NoteCode::CertificateChainNotYetValid,
        format!(
            "{} has a chain that is not valid yet: certificate {position} in it is not valid before {}, and clients that verify \
             refuse it until then; get the chain anew from the issuer, or check this machine's clock",
            escape_path(&one.source.certificate),
            Date(not_before)
        ),
    ))
}

fn notes_on(one: &Served<'_>, certificates: &CertificateSet, now: SystemTime) -> Vec<Note> {
    let Served { pair, called, .. } = one;
    let mut notes: Vec<Note> = expires_soon(one, now).into_iter().collect();
    notes.extend(chain_expires(one, now));
    notes.extend(chain_has_not_begun(one, now));
    match (&pair.names[..], &pair.addresses[..]) {
        ([], []) => {
            notes.push(Note::warning(
                NoteCode::CertificateWithoutName,
                format!("{called} has no DNS name: clients will reject it"),
            ));
        }
        ([], addresses) => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            notes.push(Note::warning(
                NoteCode::CertificateForAddresses,
                format!(
                    "{called} is only for {}: clients that connect by a host name will reject it",
                    addresses.join(", ")
                ),
            ));
        }
        _ => {}
    }
    if let Some(position) = pair.broken_at {
        let next = position + 1;
        notes.push(Note::warning(
            NoteCode::CertificateChainBroken,
            format!(
                "{} has a broken chain: certificate {next} has the name of the issuer of certificate {position}, and not the \
                 key that signed it, so most clients will reject it; put the issuer's other certificate in its place",
                escape_path(&one.source.certificate)
            ),
        ));
    }
    if pair.is_authority {
        notes.push(Note::warning(
            NoteCode::CertificateOfAuthority,
            format!(
                "{called} is a certificate authority's (CA:TRUE), which some clients reject for a server"
            ),
        ));
    }
    if !pair.is_for_servers {
        notes.push(Note::warning(
            NoteCode::CertificatePurpose,
            format!(
                "{called} is not for servers (no serverAuth among its purposes): clients that verify will reject it"
            ),
        ));
    }
    notes.extend(unusable_names(one));
    if !certificates.has_more_usable_than(pair) {
        notes.extend(shut_out(one));
    }
    if pair.is_leaf_alone() {
        notes.push(Note::hint(NoteCode::CertificateLeafAlone, format!(
            "{} contains only the leaf certificate, issued by {}: append the issuer's certificate unless clients have it as a root, or most of \
             them will refuse the connection",
            escape_path(&one.source.certificate),
            pair.issuer
        )));
    }
    notes
}

fn unusable_names(one: &Served<'_>) -> Option<Note> {
    // The names that servers are asked for have no dot behind them.
    let is_unusable = |name: &&String| name.ends_with('.') || HostPattern::parse(name).is_none();
    let names: Vec<&str> = one
        .pair
        .names
        .iter()
        .filter(is_unusable)
        .map(|name| &**name)
        .collect();
    (!names.is_empty()).then(|| {
        Note::warning(
            NoteCode::CertificateNameUnusable,
            format!(
                "{} has names that it is never shown for ({}): a name has no dot behind it, and a wildcard is the whole first label, \
                 as in *.example.com",
                one.called,
                names.join(", ")
            ),
        )
    })
}

/// Hints: most certificates are RSA's, and programs of old Windows are rare; an Ed25519 key is a deliberate choice.
fn shut_out(one: &Served<'_>) -> Option<Note> {
    let called = &one.called;
    match one.pair.key_compatibility() {
        KeyCompatibility::All => None,
        KeyCompatibility::NoLegacySchannel => Some(Note::hint(
            NoteCode::CertificateRsaKey,
            format!(
                "{called} has an RSA key: programs that use the TLS of Windows before 10 and \
                 Server 2016 can't connect; with an ECDSA key they can (docs/tls-limits.md)"
            ),
        )),
        KeyCompatibility::NoSchannel => Some(Note::hint(
            NoteCode::CertificateEd25519Key,
            format!(
                "{called} has an Ed25519 key: programs that use the TLS of Windows (Schannel, .NET), of Java before 16 or of \
                 OpenSSL before 1.1.1 can't connect; with an ECDSA key they can (docs/tls-limits.md)"
            ),
        )),
    }
}

/// A certificate may lie in two places, and one of each kind of key for a name is what is meant.
fn names_twice<'a>(all: &'a [Served<'a>]) -> impl Iterator<Item = Note> + 'a {
    let mut first: HashMap<(&str, &str), &Served<'_>> = HashMap::new();
    let claims = all
        .iter()
        .flat_map(|one| one.pair.names.iter().map(move |name| (name, one)));
    claims.filter_map(move |(name, one)| {
        let claim = (name.as_str(), one.pair.key_kind());
        let Some(other) = first.get(&claim) else {
            first.insert(claim, one);
            return None;
        };
        if other.pair.fingerprint == one.pair.fingerprint {
            return None;
        }
        Some(Note::hint(
            NoteCode::CertificateNameTwice,
            format!(
                "{} and {} are both for {name}: clients that name it are shown the one that expires last",
                other.source.name, one.source.name
            ),
        ))
    })
}

fn keys_shared(all: &[Served<'_>]) -> Vec<Note> {
    let mut first: HashMap<Vec<u8>, &Served<'_>> = HashMap::new();
    let mut notes = Vec::new();
    for one in all {
        let Some(key) = one.pair.public_key() else {
            continue;
        };
        let Some(other) = first.get(&key) else {
            first.insert(key, one);
            continue;
        };
        if other.pair.fingerprint != one.pair.fingerprint {
            notes.push(Note::hint(
                NoteCode::CertificateKeyShared,
                format!(
                    "{} and {} have the same private key: a compromise of it affects both",
                    other.source.name, one.source.name
                ),
            ));
        }
    }
    notes
}
