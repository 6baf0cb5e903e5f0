//! The backend's part in each cell, as a script.

use testkit::content;
use testkit::script::{Step, reply};
use testkit::wire::End;

use super::ending::{Direction, Ending};
use super::{Cell, content, half};

/// The text of every final reply, to tell it from the proxy's own.
pub const SAYS: &str = "says the backend";

/// What the backend does at the cell's command.
pub fn steps(cell: &Cell) -> Vec<Step> {
    let play = match cell.direction() {
        Direction::Upload => upload(cell),
        Direction::Download => download(cell),
    };
    let begin = [reply("150 here we go"), Step::OpenData];
    begin.into_iter().chain(play).collect()
}

/// What it sends in a download, as far as that ends.
pub fn content_of(cell: &Cell) -> Vec<u8> {
    let sent = download(cell).into_iter().filter_map(|step| match step {
        Step::Send(bytes) | Step::Dribble(bytes) => Some(bytes),
        _ => None,
    });
    sent.collect::<Vec<_>>().concat()
}

fn says(number: u16) -> Step {
    reply(&format!("{number} {SAYS}"))
}

/// Here the backend is the sink.
fn upload(cell: &Cell) -> Vec<Step> {
    use Ending::*;
    let end = Step::EndData(cell.backend.orderly());
    let to_half = [
        Step::ReceiveSome(half().len()),
        Step::Open(cell.halfway.clone()),
    ];
    let from_half = |steps: &[Step]| [&to_half, steps].concat();
    match cell.ending {
        Whole(_) => vec![Step::Receive, end, says(226)],
        SlowSource | FinAlone | ClientQuits => from_half(&[Step::Receive, end, says(226)]),
        SlowSink => vec![Step::ReceiveSlowly, end, says(226)],
        WrongWay => {
            let wrong = Step::Send(b"nobody reads this".to_vec());
            from_half(&[wrong, Step::Receive, end, says(226)])
        }
        EarlyConfirmation => from_half(&[says(226), Step::Receive]),
        SourceResets | SourceBreaksTls | SourceAlerts | SourceStalls | ClientAborts
        | ClientCloses | ClientResets | ProxyKilled | FinAloneAndRefusal => {
            from_half(&[Step::Receive, says(426)])
        }
        SourceResetsAndConfirmation => from_half(&[Step::Receive, says(226)]),
        SinkResets => from_half(&[Step::EndData(End::Reset), says(426)]),
        SinkResetsAndConfirmation => from_half(&[Step::EndData(End::Reset), says(226)]),
        SinkResetsAtLast => vec![Step::Receive, Step::EndData(End::Reset), says(226)],
        SinkStalls => from_half(&[Step::AwaitCommand, Step::Receive, says(426)]),
        BackendRefuses(number) => from_half(&[says(number), Step::Receive]),
        BackendSilent => vec![Step::Receive, end],
        BackendCloses => from_half(&[Step::HangUp(cell.backend.orderly()), Step::Receive]),
        BackendResets => from_half(&[Step::HangUp(End::Reset), Step::Receive]),
    }
}

/// Here the backend is the source.
fn download(cell: &Cell) -> Vec<Step> {
    use Ending::*;
    let end = Step::EndData(cell.backend.orderly());
    let rest = Step::Send(content()[half().len()..].to_vec());
    let to_half = [Step::Send(half()), Step::Wait(cell.halfway.clone())];
    let from_half = |steps: &[Step]| [&to_half, steps].concat();
    match cell.ending {
        Whole(length) => vec![Step::Send(content::bytes(7, length)), end, says(226)],
        SlowSource => {
            let little = half()[..1000].to_vec();
            from_half(&[Step::Dribble(little), end, says(226)])
        }
        SlowSink => vec![Step::Send(content()), end, says(226)],
        WrongWay | ClientQuits => from_half(&[rest, end, says(226)]),
        EarlyConfirmation => from_half(&[says(226), rest, end]),
        FinAlone => from_half(&[Step::EndData(End::Fin), says(226)]),
        FinAloneAndRefusal => from_half(&[Step::EndData(End::Fin), says(426)]),
        SourceResets => from_half(&[Step::EndData(End::Reset), says(426)]),
        SourceResetsAndConfirmation => from_half(&[Step::EndData(End::Reset), says(226)]),
        SourceBreaksTls => {
            let odd = Step::SendBelowTls(b"500 what is TLS?\r\n".to_vec());
            from_half(&[odd, Step::Receive, says(426)])
        }
        SourceAlerts => from_half(&[Step::Alert, Step::Receive, says(426)]),
        SourceStalls | ClientAborts | ClientCloses | ClientResets => {
            from_half(&[Step::Receive, says(426)])
        }
        ProxyKilled => vec![Step::Send(half()), Step::Receive],
        SinkResets | SinkStalls => from_half(&[Step::Pour(half()), says(426)]),
        SinkResetsAndConfirmation => from_half(&[Step::Pour(half()), says(226)]),
        SinkResetsAtLast => from_half(&[end, says(226)]),
        BackendRefuses(number) => from_half(&[end, says(number)]),
        BackendSilent => from_half(&[end]),
        BackendCloses => from_half(&[Step::HangUp(cell.backend.orderly()), Step::Receive]),
        BackendResets => from_half(&[Step::HangUp(End::Reset), Step::Receive]),
    }
}
