//! The client's part in each cell, and what must be seen of it on both sides.

use std::io::{Read, Write};

use testkit::content;
use testkit::raw::{Raw, RawTls, open_data, protect};
use testkit::wire::{End, Wire};

use super::backend::{self, SAYS};
use super::ending::{Direction, Ending, Sees, Told};
use super::{Cell, Deployment, content, half};

/// The file that every backend has, to be downloaded after all that has happened.
pub const AFTERWARDS: &str = "afterwards";

/// A transfer under way: its command was answered with 150, and the handshakes are done.
pub struct Transfer {
    control: Raw,
    tls: Option<RawTls>,
    pub data: Wire,
}

/// What the client has done and seen on its data connection.
struct Played {
    /// What it has sent in an upload, or got in a download.
    content: Vec<u8>,
    /// How the proxy has ended it; none if the client has ended it so that nothing can be seen any more.
    end: Option<End>,
}

/// Plays the cell to its end, and looks at what everybody sees.
///
/// # Panics
/// If it isn't as the table has it.
pub fn play(cell: &Cell, deployment: &Deployment) {
    let outcome = cell.outcome();
    let outcome = outcome.expect("only cells that can happen are played");
    let Transfer { control, tls, data } = begin(cell, deployment);
    let (control, played) = match cell.direction() {
        Direction::Upload => upload(cell, control, data),
        Direction::Download => download(cell, control, data),
    };
    let control = control.and_then(|control| replies(outcome.told, control));

    let server = deployment.backend(cell.backend);
    let command = cell.command();
    let complete = matches!(outcome.told, Told::Confirmation | Told::Goodbye);
    let (client_sees, backend_sees) = match cell.direction() {
        Direction::Upload => {
            if complete {
                let stored = server.wait_for_upload_by(&command).content;
                assert!(stored == played.content, "stored is not what was sent");
            }
            (outcome.source, outcome.sink)
        }
        Direction::Download => {
            let sent = backend::content_of(cell);
            if complete {
                assert!(played.content == sent, "what came is not what was sent");
            } else if cell.ending != Ending::SinkStalls {
                assert!(sent.starts_with(&played.content), "something else came");
            }
            (outcome.sink, outcome.source)
        }
    };
    assert_eq!(
        played.end,
        expected(client_sees, cell.client.orderly()),
        "client"
    );
    if let Some(end) = expected(backend_sees, cell.backend.orderly()) {
        assert_eq!(server.wait_for_data_end(&command), end, "backend");
    }

    if let Some(mut control) = control {
        control.command("NOOP", 200);
        let mut data = open_data(control.epsv());
        control.command(&format!("RETR {AFTERWARDS}"), 150);
        if let Some(tls) = &tls {
            protect(&mut data, tls).expect("a handshake afterwards");
        }
        let (afterwards, end) = data.read_to_end();
        drop(data);
        control.expect(226);
        assert!(afterwards == content(), "another file came afterwards");
        assert_eq!(end, cell.client.orderly(), "afterwards");
    }
}

/// Begins the cell's transfer and gets it to the point where half of the content has arrived.
pub fn begin_and_reach_half(cell: &Cell, deployment: &Deployment) -> Transfer {
    let mut transfer = begin(cell, deployment);
    match cell.direction() {
        Direction::Upload => send_half(cell, &mut transfer.data),
        Direction::Download => drop(receive_half(&mut transfer.data)),
    }
    transfer
}

fn begin(cell: &Cell, deployment: &Deployment) -> Transfer {
    let address = deployment.proxy.explicit();
    let tls = cell.client.version().map(|of| deployment.front.tls_of(of));
    let mut control = match &tls {
        Some(tls) => Raw::connect_auth_tls(address, tls),
        None => {
            let mut control = Raw::connect(address);
            control.expect(220);
            control
        }
    };
    let site = format!("{:?}", cell.backend).to_lowercase();
    control.login(&format!("{site}.test|alice"), "secret");
    if tls.is_some() {
        control.protect_data();
    }
    let mut data = open_data(control.epsv());
    control.command(&cell.command(), 150);
    if let Some(tls) = &tls {
        protect(&mut data, tls).expect("a handshake on the data connection");
    }
    Transfer { control, tls, data }
}

fn send_half(cell: &Cell, data: &mut Wire) {
    data.write_all(&half()).expect("the proxy reads");
    assert!(cell.halfway.wait(), "half of the content never arrived");
}

fn receive_half(data: &mut Wire) -> Vec<u8> {
    let mut content = half();
    data.read_exact(&mut content)
        .expect("half of the content comes");
    content
}

/// Here the client is the source. Gives the control connection back, unless the client has ended it.
fn upload(cell: &Cell, mut control: Raw, mut data: Wire) -> (Option<Raw>, Played) {
    use Ending::*;
    let sent = match cell.ending {
        Whole(length) => content::bytes(7, length),
        SlowSink | SinkResetsAtLast | BackendSilent => content(),
        _ => {
            send_half(cell, &mut data);
            half()
        }
    };
    let rest = content()[half().len()..].to_vec();
    let ends = |mut data: Wire, content: Vec<u8>| Played {
        content,
        end: Some(data.read_to_end().1),
    };
    let played = match cell.ending {
        ClientCloses | ClientResets => {
            control.close(end_of_control(cell));
            return (None, ends(data, sent));
        }
        Whole(_) | SlowSink | SinkResetsAtLast | BackendSilent => {
            data.write_all(&sent).expect("the proxy reads");
            data.finish().expect("the proxy is there");
            ends(data, sent)
        }
        SlowSource => {
            let little = &rest[..1000];
            for byte in little {
                data.write_all(&[*byte]).expect("the proxy reads");
            }
            data.finish().expect("the proxy is there");
            ends(data, [&sent, little].concat())
        }
        WrongWay | ClientQuits => {
            if cell.ending == ClientQuits {
                control.send("QUIT");
            }
            data.write_all(&rest).expect("the proxy reads");
            data.finish().expect("the proxy is there");
            ends(data, [sent, rest].concat())
        }
        FinAlone => {
            data.fin().expect("the proxy is there");
            ends(data, sent)
        }
        SourceResets | SourceResetsAndConfirmation => {
            data.reset();
            Played {
                content: sent,
                end: None,
            }
        }
        SourceBreaksTls => {
            let odd = data.send_below_tls(b"QUIT\r\n");
            odd.expect("the proxy is there");
            ends(data, sent)
        }
        SourceAlerts => {
            data.alert().expect("the proxy is there");
            ends(data, sent)
        }
        SinkStalls => Played {
            end: Some(data.pour(&sent)),
            content: sent,
        },
        ClientAborts => {
            control.send("ABOR");
            ends(data, sent)
        }
        // The backend's turn, or time's.
        EarlyConfirmation
        | SourceStalls
        | SinkResets
        | SinkResetsAndConfirmation
        | BackendRefuses(_)
        | BackendCloses
        | BackendResets
        | ProxyKilled
        | FinAloneAndRefusal => ends(data, sent),
    };
    (Some(control), played)
}

/// Here the client is the sink. Gives the control connection back, unless the client has ended it.
fn download(cell: &Cell, mut control: Raw, mut data: Wire) -> (Option<Raw>, Played) {
    use Ending::*;
    let ends = |mut data: Wire, begun: Vec<u8>| {
        let (rest, end) = data.read_to_end();
        Played {
            content: [begun, rest].concat(),
            end: Some(end),
        }
    };
    match cell.ending {
        Whole(_) => return (Some(control), ends(data, Vec::new())),
        SlowSink => {
            let socket = socket2::SockRef::from(data.socket());
            let narrowed = socket.set_recv_buffer_size(4096);
            narrowed.expect("the socket is open");
            let (content, end) = data.read_to_end_by(512);
            let end = Some(end);
            return (Some(control), Played { content, end });
        }
        _ => {}
    }
    let begun = receive_half(&mut data);
    match cell.ending {
        WrongWay => data
            .write_all(b"nobody reads this")
            .expect("the proxy is there"),
        ClientQuits => control.send("QUIT"),
        SinkResets | SinkResetsAndConfirmation | SinkResetsAtLast => {
            data.reset();
            cell.halfway.open();
            let (content, end) = (begun, None);
            return (Some(control), Played { content, end });
        }
        _ => {}
    }
    cell.halfway.open();
    match cell.ending {
        ClientCloses | ClientResets => {
            control.close(end_of_control(cell));
            return (None, ends(data, begun));
        }
        SinkStalls => control.wait_until_it_says_something(),
        ClientAborts => control.send("ABOR"),
        _ => {}
    }
    (Some(control), ends(data, begun))
}

fn end_of_control(cell: &Cell) -> End {
    match cell.ending {
        Ending::ClientResets => End::Reset,
        _ => cell.client.orderly(),
    }
}

/// Reads what the client is told, and gives the control connection back if the session goes on after it.
fn replies(told: Told, mut control: Raw) -> Option<Raw> {
    match told {
        Told::Confirmation | Told::Goodbye => {
            assert_eq!(control.expect(226), format!("226 {SAYS}"));
        }
        Told::Refusal(number) => {
            assert_eq!(control.expect(number), format!("{number} {SAYS}"));
        }
        Told::Failure => {
            let own = control.expect(426);
            assert!(!own.ends_with(SAYS), "the backend's words: {own}");
        }
        Told::Abortion => {
            control.expect(426);
            control.expect(226);
        }
        Told::Loss => drop(control.expect(421)),
        Told::Nothing => {}
    }
    if told == Told::Goodbye {
        control.expect(221);
    }
    match told {
        Told::Goodbye | Told::Loss | Told::Nothing => {
            let (rest, _) = control.end();
            assert!(rest.is_empty(), "the session goes on");
            None
        }
        Told::Confirmation | Told::Refusal(_) | Told::Failure | Told::Abortion => Some(control),
    }
}

/// How that looks on a leg that ends like this if all is well.
fn expected(sees: Sees, orderly: End) -> Option<End> {
    match sees {
        Sees::Order => Some(orderly),
        Sees::Reset => Some(End::Reset),
        Sees::Nothing => None,
    }
}
