//! Standard output, as a terminal that is redrawn round by round, or as a stream that gets one round behind the other.

use std::io::{self, IsTerminal, Stdout, Write};

use rustix::termios::tcgetwinsize;

use super::answer::Rounds;
use super::report::Format;
use super::table::WIDTH;

/// A terminal that is narrower breaks the lines.
const LEAST_WIDTH: usize = 40;
/// The top left corner, with nothing behind it.
const CLEARED: &str = "\x1b[H\x1b[2J";

/// The terminal, or another output, on which rounds are shown.
#[derive(Debug)]
pub struct Screen {
    output: Stdout,
    place: Place,
    any_shown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A terminal, which each round fills.
    Redrawn,
    /// Other output: lines after lines.
    Stream,
}

impl Screen {
    /// The screen of standard output.
    pub fn of_stdout(rounds: Rounds) -> Self {
        let output = io::stdout();
        let place = match rounds {
            Rounds::Many if output.is_terminal() => Place::Redrawn,
            Rounds::Many | Rounds::One => Place::Stream,
        };
        Self {
            output,
            place,
            any_shown: false,
        }
    }

    /// How wide a line may be.
    pub fn width(&self) -> usize {
        self.size()
            .map_or(WIDTH, |(columns, _)| columns.clamp(LEAST_WIDTH, WIDTH))
    }

    /// Shows a round.
    pub fn show(&mut self, text: &str, format: Format) -> io::Result<()> {
        let shown = match (self.place, format) {
            (Place::Redrawn, Format::Human) => {
                let rows = self.size().map_or(usize::MAX, |(_, rows)| rows);
                format!("{CLEARED}{}", fitting(text, rows))
            }
            // A line between two rounds.
            (Place::Stream, Format::Human) if self.any_shown => format!("\n{text}"),
            (Place::Stream, Format::Human) | (_, Format::Json) => text.to_owned(),
        };
        self.any_shown = true;
        self.output.write_all(shown.as_bytes())?;
        self.output.flush()
    }

    /// Columns and rows of the terminal, if it is one that has them.
    fn size(&self) -> Option<(usize, usize)> {
        let size = tcgetwinsize(&self.output).ok()?;
        let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
        (columns > 0 && rows > 0).then_some((columns, rows))
    }
}

/// The first lines of a text, so that the terminal doesn't scroll; the last one tells how many are left out.
fn fitting(text: &str, rows: usize) -> String {
    // The cursor has the last row.
    let room = rows.saturating_sub(1);
    let count = text.lines().count();
    if count <= room {
        return text.to_owned();
    }
    let shown = room.saturating_sub(1);
    let kept: String = text.split_inclusive('\n').take(shown).collect();
    format!("{kept}… {} more\n", count - shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_made_to_scroll() {
        assert_eq!(fitting("a\nb\nc\n", 4), "a\nb\nc\n");
        assert_eq!(fitting("a\nb\nc\nd\n", 4), "a\nb\n… 2 more\n");
        assert_eq!(fitting("a\nb\n", 1), "… 2 more\n");
    }
}
