//! ClientHellos and ServerHellos of the tests' own making: what rustls sees of them, and what the transcript does.

use proptest::prelude::*;

use super::*;

fn vector16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    [&length.to_be_bytes()[..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(content)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    let entry = [&[HOST_NAME][..], &vector16(name)].concat();
    extension(SERVER_NAME, &vector16(&entry))
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind][..], &length[1..], body].concat()
}

fn client_hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let front = [&[3, 3][..], &[7; 32], &[2, 8, 8], &[0, 2, 0x13, 1], &[1, 0]].concat();
    message(
        CLIENT_HELLO,
        &[front, vector16(&extensions.concat())].concat(),
    )
}

fn server_hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let front = [&[3, 3][..], &[9; 32], &[2, 8, 8], &[0x13, 1], &[0]].concat();
    message(
        SERVER_HELLO,
        &[front, vector16(&extensions.concat())].concat(),
    )
}

fn records(message: &[u8], longest: usize) -> Vec<u8> {
    let each = |piece: &[u8]| [&[HANDSHAKE_RECORD, 3, 1][..], &vector16(piece)].concat();
    message.chunks(longest).flat_map(each).collect()
}

fn kinds(message: &[u8]) -> Vec<u16> {
    client_extensions(message)
        .map(|extension| extension.kind)
        .collect()
}

/// The result of rewriting a ClientHello with these extensions, in whatever records it comes: the types that rustls sees. The
/// transcript has to see what was sent.
fn translated(extensions: &[Vec<u8>]) -> (Vec<u16>, HelloRewrite) {
    let hello = client_hello(extensions);
    let mut results = [1, 7, 100, 16_000].map(|longest| {
        let mut records = records(&hello, longest);
        let rewritten = rewrite(&mut records);
        let seen = handshake_bytes(&records);
        let unhidden = original(&seen).map_or_else(|| seen.clone(), |(original, _)| original);
        assert_eq!(unhidden, hello);
        (kinds(&seen), rewritten)
    });
    let result = results[0].clone();
    assert!(results.iter_mut().all(|other| *other == result));
    result
}

#[test]
fn server_names_that_are_names_or_addresses_are_left_to_rustls() {
    for name in [
        &b"ftp.example.com"[..],
        b"FTP.Example.COM.",
        b"under_score.example",
        b"192.0.2.1",
        b"2001:db8::1",
    ] {
        let (kinds, rewritten) = translated(&[server_name(name)]);
        assert_eq!(kinds, [SERVER_NAME], "{}", name.escape_ascii());
        assert_eq!(rewritten, HelloRewrite::default());
    }
}

#[test]
fn server_names_that_are_none_are_hidden() {
    for name in [
        &b"ftp.example.com:990"[..],
        b"[2001:db8::1]",
        b"a b",
        b"m\xFCnchen.example",
        b"",
        b".",
        b"-",
        b"*.example.com",
        b"ftps://ftp.example.com/",
        b"ftp.example.com\0",
    ] {
        let before = extension(10, &[0, 2, 0, 29]);
        let (kinds, rewritten) = translated(&[before.clone(), server_name(name), before]);
        assert_eq!(
            kinds,
            [10, HIDDEN_SERVER_NAME, 10],
            "{}",
            name.escape_ascii()
        );
        assert_eq!(rewritten, HelloRewrite::default());
    }
    // No list, an empty one, one of another type, one with two names, one that says it were longer.
    let two = [
        &[HOST_NAME][..],
        &vector16(b"a"),
        &[HOST_NAME],
        &vector16(b"b"),
    ]
    .concat();
    for content in [
        vec![],
        vec![0, 0],
        vector16(b"\x01\x00\x01a"),
        vector16(&two),
        b"\x00\x05\x00\x00\x01a".to_vec(),
    ] {
        let (kinds, _) = translated(&[extension(SERVER_NAME, &content)]);
        assert_eq!(kinds, [HIDDEN_SERVER_NAME], "{content:?}");
    }
}

#[test]
fn a_clients_limit_of_records_is_heeded() {
    let fragment = |value: u8| extension(MAX_FRAGMENT_LENGTH, &[value]);
    let limit = |limit: u16| extension(RECORD_SIZE_LIMIT, &limit.to_be_bytes());
    for (extensions, longest, answer) in [
        (vec![fragment(1)], Some(512), Some(1)),
        (vec![fragment(4)], Some(4096), Some(4)),
        (vec![fragment(0)], None, None),
        (vec![fragment(5)], None, None),
        (vec![extension(MAX_FRAGMENT_LENGTH, &[])], None, None),
        (vec![limit(64)], Some(63), None),
        // GnuTLS always sends it.
        (vec![limit(16_385)], None, None),
        (vec![limit(63)], None, None),
        (vec![fragment(2), limit(200)], Some(199), Some(2)),
        (vec![limit(200), fragment(2)], Some(199), Some(2)),
        (vec![limit(2_000), fragment(2)], Some(1024), Some(2)),
    ] {
        let (_, rewritten) = translated(&extensions);
        assert_eq!(rewritten.longest, longest, "{extensions:?}");
        assert_eq!(rewritten.fragment, answer, "{extensions:?}");
        let hidden = translated(&extensions)
            .0
            .contains(&HIDDEN_MAX_FRAGMENT_LENGTH);
        assert_eq!(hidden, answer.is_some());
    }
}

#[test]
fn the_server_hello_answers_in_tls_1_2_alone() {
    let renegotiation = extension(0xFF01, &[0]);
    let answer = extension(MAX_FRAGMENT_LENGTH, &[2]);
    let before = server_hello(std::slice::from_ref(&renegotiation));
    let after = server_hello(&[renegotiation, answer.clone()]);
    assert_eq!(answered(&before, 2), Some(after.clone()));
    // One without a single extension has no block for them.
    let bare = server_hello(&[]);
    let bare = message(SERVER_HELLO, &bare[MESSAGE_HEADER..bare.len() - 2]);
    assert_eq!(answered(&bare, 2), Some(server_hello(&[answer])));
    let tls13 = server_hello(&[extension(SUPPORTED_VERSIONS, &[3, 4])]);
    assert_eq!(answered(&tls13, 2), None);

    // The answer stands in a record of its own, since the one that it was in may have been full.
    let rewritten = HelloRewrite {
        longest: Some(1024),
        fragment: Some(2),
    };
    let rest = message(11, &[0; 2000]);
    let mut flight = records(&[before, rest.clone()].concat(), 1024);
    let second = flight[5 + 1024..].to_vec();
    let first_of_rest = &rest[..1024 - (after.len() - 5)];
    rewritten.answer(&mut flight);
    let wanted = [records(&after, 1024), records(first_of_rest, 1024), second].concat();
    assert_eq!(flight, wanted);
    // An alert.
    let mut alert = vec![21, 3, 3, 0, 2, 2, 40];
    rewritten.answer(&mut alert);
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 40]);
}

#[test]
fn the_transcript_of_a_hello_that_is_cut_at_its_binder_is_the_clients() {
    let pre_shared_key = extension(41, &[0; 80]);
    let hello = client_hello(&[server_name(b"a b"), pre_shared_key]);
    let mut records = records(&hello, 16_000);
    rewrite(&mut records);
    let seen = handshake_bytes(&records);
    let cut = seen.len() - 35;
    assert_eq!(original(&seen[..cut]), Some((hello[..cut].to_vec(), None)));
}

proptest! {
    #[test]
    fn any_bytes_are_taken_and_keep_their_length(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for bytes in [bytes.clone(), records(&client_hello(std::slice::from_ref(&bytes)), 50), records(&bytes, 50)] {
            let mut translated = bytes.clone();
            let rewritten = rewrite(&mut translated);
            prop_assert_eq!(translated.len(), bytes.len());
            let _ = original(&bytes);
            let _ = answered(&bytes, 1);
            let mut answer = bytes;
            rewritten.answer(&mut answer);
        }
    }
}

#[test]
fn what_a_client_has_signed_is_what_went_over_the_wire() {
    let sent = client_hello(&[
        server_name(b"ftp.example.com:990"),
        extension(MAX_FRAGMENT_LENGTH, &[2]),
    ]);
    let mut rewritten = records(&sent, sent.len());
    rewrite(&mut rewritten);
    let read = handshake_bytes(&rewritten);
    assert_ne!(read, sent);
    let written = server_hello(&[]);
    let answer = answered(&written, 2).unwrap();
    let behind = message(11, b"certificates");
    let messages = [&read[..], &written, &behind].concat();
    assert_eq!(
        *on_the_wire(&messages),
        [&sent[..], &answer, &behind].concat()
    );
    for untouched in [&client_hello(&[])[..], b"", b"\x01\x00\x00\x09"] {
        let messages = [untouched, &written].concat();
        assert_eq!(*on_the_wire(&messages), messages);
    }
}
