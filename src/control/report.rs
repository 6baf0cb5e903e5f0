//! Shows the process's report on a subject, once or repeatedly, and asks the process for actions.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::time::sleep;

use super::answer::{ApiAnswer, Rounds};
use super::error::{ControlError, Unreadable};
use super::screen::Screen;
use super::socket::{Request, Socket};

/// The time between two rounds.
const INTERVAL: Duration = Duration::from_secs(2);

/// The audience that a report is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: a table.
    Human,
    /// For programs: JSON, an object a line.
    Json,
}

/// The frame of a text for people: all that the text depends on beside the answers.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// The width of the text: no line is wider.
    pub width: usize,
    /// The time.
    pub now: Timestamp,
}

/// A subject that can be shown, from the answers to `N` requests.
pub trait Report<const N: usize> {
    /// The requests, sent one after the other.
    fn requests(&self) -> [Request; N];

    /// For people, from the answers in the order of the requests.
    fn text(&mut self, answers: &[ApiAnswer; N], frame: &Frame) -> Result<String, Unreadable>;

    /// For programs: lines, each a JSON object.
    fn json(&self, answers: &[ApiAnswer; N], rounds: Rounds) -> Result<String, Unreadable>;
}

/// Shows a subject on standard output. Of many rounds Ctrl-C is the end, or an output that takes no more.
pub fn show<const N: usize>(
    report: &mut impl Report<N>,
    socket: &Socket,
    format: Format,
    rounds: Rounds,
) -> Result<(), ControlError> {
    let mut screen = Screen::of_stdout(rounds);
    let runtime = runtime()?;
    runtime.block_on(async {
        match rounds {
            Rounds::One => {
                let text = round(report, socket, format, rounds, &screen).await?;
                screen.show(&text, format).or_else(unless_gone)
            }
            Rounds::Many => tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => Ok(()),
                ended = watch(report, socket, format, &mut screen) => ended,
            },
        }
    })
}

/// Sends a request for an action; returns the process's report of what it has done.
pub fn act(socket: &Socket, request: Request) -> Result<String, ControlError> {
    let answer = runtime()?.block_on(socket.ask(request))?;
    answer.text("done").map_err(|error| foreign(socket, error))
}

async fn watch<const N: usize>(
    report: &mut impl Report<N>,
    socket: &Socket,
    format: Format,
    screen: &mut Screen,
) -> Result<(), ControlError> {
    loop {
        let text = round(report, socket, format, Rounds::Many, screen).await?;
        if let Err(error) = screen.show(&text, format) {
            return unless_gone(error);
        }
        sleep(INTERVAL).await;
    }
}

/// A reader that has gone wants no more of it.
fn unless_gone(error: io::Error) -> Result<(), ControlError> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(ControlError::Output(error)),
    }
}

async fn round<const N: usize>(
    report: &mut impl Report<N>,
    socket: &Socket,
    format: Format,
    rounds: Rounds,
    screen: &Screen,
) -> Result<String, ControlError> {
    let mut answers = Vec::with_capacity(N);
    for request in report.requests() {
        answers.push(socket.ask(request).await?);
    }
    let answers: [ApiAnswer; N] = answers.try_into().expect("one for each request");
    let text = match format {
        Format::Human => {
            let frame = Frame {
                width: screen.width(),
                now: Timestamp::now(),
            };
            report.text(&answers, &frame)
        }
        Format::Json => report.json(&answers, rounds),
    };
    text.map_err(|error| foreign(socket, error))
}

fn foreign(socket: &Socket, error: Unreadable) -> ControlError {
    ControlError::Foreign(socket.path().to_owned(), error)
}

fn runtime() -> Result<Runtime, ControlError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(ControlError::Runtime)
}
