//! Clients that keep a session busy without end: other sessions have their turn all the same.

use std::future::poll_fn;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::pin::pin;

use testkit::script::Script;
use testkit::scripted::Backend;
use tokio::net::TcpListener;

use crate::in_process::Server;

/// How many lines a session may take before its task lets others run: the budget that tokio gives a task, and what one read
/// brings behind it.
const LINES_A_TURN: usize = 4_096;

#[test]
fn a_session_that_is_sent_empty_lines_without_end_yields_to_others() {
    let backend = Backend::start(Script::new());
    let server = Server::idle(backend.address());
    let (lines, turns) = server.runtime.block_on(async {
        let listener = TcpListener::bind((server.config.explicit().ip(), 0)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut client = TcpStream::connect(address).expect("it accepts");
        client.set_nonblocking(true).expect("a socket");
        // All that the kernel takes, so that the session never has to wait for more.
        let mut lines = 0;
        let full = loop {
            match client.write(&[b'\n'; 64 * 1024]) {
                Ok(count) => lines += count,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        client
            .shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        let (stream, from) = listener.accept().await.expect("a client");
        let mut session = pin!(server.session(stream, from));
        let mut turns = 0;
        poll_fn(|context| {
            turns += 1;
            session.as_mut().poll(context)
        })
        .await;
        (lines, turns)
    });
    assert!(
        turns > lines / LINES_A_TURN,
        "{turns} turns for {lines} lines"
    );
}
