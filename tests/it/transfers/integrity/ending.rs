//! The table of endings: what happens to a transfer, and what client and backend must see of it.

use super::Leg;

/// Which way the bytes go. The source of an upload is the client, that of a download the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Upload,
    Download,
}

/// What happens. Where it isn't about the whole content, it happens when half of it has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The source sends so many bytes and ends in order.
    Whole(usize),
    /// The source sends byte by byte.
    SlowSource,
    /// The sink has hardly any buffer and reads a few bytes at a time.
    SlowSink,
    /// The sink sends something, too.
    WrongWay,
    /// The client says QUIT before the end.
    ClientQuits,
    /// The backend says 226 before the source's end.
    EarlyConfirmation,
    /// The source ends with FIN but no close_notify, and the backend says 226.
    FinAlone,
    /// The same, and the backend says 426.
    FinAloneAndRefusal,
    /// The source resets, and the backend says 426.
    SourceResets,
    /// The source resets, and the backend says 226.
    SourceResetsAndConfirmation,
    /// The source sends what is no TLS record.
    SourceBreaksTls,
    /// The source sends a fatal alert.
    SourceAlerts,
    /// The source sends no more.
    SourceStalls,
    /// The sink resets, and the backend says 426.
    SinkResets,
    /// The sink resets, and the backend says 226.
    SinkResetsAndConfirmation,
    /// The sink resets when every byte is there, and the backend says 226.
    SinkResetsAtLast,
    /// The sink reads no more.
    SinkStalls,
    /// The backend says this number; in a download it ends the data in order before.
    BackendRefuses(u16),
    /// Everything is in order, but the backend says nothing in the end.
    BackendSilent,
    /// The backend closes its control connection.
    BackendCloses,
    /// The backend resets its control connection.
    BackendResets,
    /// The client closes its control connection.
    ClientCloses,
    /// The client resets its control connection.
    ClientResets,
    /// The client says ABOR.
    ClientAborts,
    /// The proxy is killed. What comes of that has a test of its own.
    ProxyKilled,
}

use Ending::*;

impl Ending {
    /// Those that wait for no timeout.
    pub fn prompt() -> Vec<Self> {
        // Nothing, little, around one TLS record, and more than a socket's buffer holds at first.
        let sizes = [0, 1, 16_383, 16_384, 16_385, 3_000_000];
        let whole = sizes.into_iter().map(Whole);
        whole
            .chain([
                SlowSource,
                SlowSink,
                WrongWay,
                ClientQuits,
                EarlyConfirmation,
                FinAlone,
                FinAloneAndRefusal,
                SourceResets,
                SourceResetsAndConfirmation,
                SourceBreaksTls,
                SourceAlerts,
                SinkResets,
                SinkResetsAndConfirmation,
                SinkResetsAtLast,
                BackendRefuses(426),
                BackendRefuses(451),
                BackendRefuses(552),
                BackendCloses,
                BackendResets,
                ClientCloses,
                ClientResets,
                ClientAborts,
            ])
            .collect()
    }

    /// Those that end with a timeout.
    pub const UNTIL_TIMEOUT: [Self; 3] = [SourceStalls, SinkStalls, BackendSilent];

    /// What must come of it; none if it can't happen.
    pub fn outcome(self, direction: Direction, source: Leg, sink: Leg) -> Option<Outcome> {
        let plain = source == Leg::Plain;
        let (told, source, sink) = match direction {
            Direction::Upload => match self {
                // What happens                      the client is told  the source sees  the sink sees
                Whole(_) | SlowSource | SlowSink => (Told::Confirmation, Sees::Order, Sees::Order),
                // A data connection has one direction; what comes the other way is nobody's.
                WrongWay => (Told::Confirmation, Sees::Order, Sees::Order),
                ClientQuits => (Told::Goodbye, Sees::Order, Sees::Order),
                EarlyConfirmation => (Told::Failure, Sees::Reset, Sees::Reset),
                // All that plain FTP has to say that a file is whole.
                FinAlone if plain => (Told::Confirmation, Sees::Order, Sees::Order),
                FinAlone => (Told::Failure, Sees::Reset, Sees::Reset),
                FinAloneAndRefusal => return None,
                SourceResets => (Told::Failure, Sees::Nothing, Sees::Reset),
                SourceResetsAndConfirmation => (Told::Failure, Sees::Nothing, Sees::Reset),
                SourceBreaksTls | SourceAlerts if plain => return None,
                SourceBreaksTls | SourceAlerts => (Told::Failure, Sees::Reset, Sees::Reset),
                SourceStalls => (Told::Failure, Sees::Reset, Sees::Reset),
                SinkResets => (Told::Refusal(426), Sees::Reset, Sees::Nothing),
                SinkResetsAndConfirmation => (Told::Failure, Sees::Reset, Sees::Nothing),
                // A kernel resets a connection whose bytes were not read. Under TLS it may be the close_notify.
                SinkResetsAtLast if sink == Leg::Plain => {
                    (Told::Failure, Sees::Order, Sees::Nothing)
                }
                SinkResetsAtLast => (Told::Confirmation, Sees::Order, Sees::Nothing),
                SinkStalls => (Told::Refusal(426), Sees::Reset, Sees::Reset),
                BackendRefuses(number) => (Told::Refusal(number), Sees::Reset, Sees::Reset),
                BackendSilent => (Told::Failure, Sees::Order, Sees::Order),
                BackendCloses | BackendResets => (Told::Loss, Sees::Reset, Sees::Reset),
                ClientCloses | ClientResets => (Told::Nothing, Sees::Reset, Sees::Reset),
                ClientAborts => (Told::Abortion, Sees::Reset, Sees::Reset),
                ProxyKilled => (Told::Nothing, Sees::Reset, Sees::Reset),
            },
            Direction::Download => match self {
                // What happens                      the client is told  the source sees  the sink sees
                Whole(_) | SlowSource | SlowSink => (Told::Confirmation, Sees::Order, Sees::Order),
                WrongWay => (Told::Confirmation, Sees::Order, Sees::Order),
                ClientQuits => (Told::Goodbye, Sees::Order, Sees::Order),
                // IIS says so while the last bytes are under way.
                EarlyConfirmation => (Told::Confirmation, Sees::Order, Sees::Order),
                // IIS never sends close_notify; the backend's word decides.
                FinAlone => (Told::Confirmation, Sees::Order, Sees::Order),
                FinAloneAndRefusal => (Told::Refusal(426), Sees::Order, Sees::Reset),
                SourceResets => (Told::Refusal(426), Sees::Nothing, Sees::Reset),
                SourceResetsAndConfirmation => (Told::Failure, Sees::Nothing, Sees::Reset),
                SourceBreaksTls | SourceAlerts if plain => return None,
                SourceBreaksTls | SourceAlerts => (Told::Refusal(426), Sees::Reset, Sees::Reset),
                SourceStalls => (Told::Refusal(426), Sees::Reset, Sees::Reset),
                SinkResets => (Told::Failure, Sees::Reset, Sees::Nothing),
                SinkResetsAndConfirmation => (Told::Failure, Sees::Reset, Sees::Nothing),
                SinkResetsAtLast => (Told::Failure, Sees::Order, Sees::Nothing),
                SinkStalls => (Told::Failure, Sees::Reset, Sees::Reset),
                BackendRefuses(number) => (Told::Refusal(number), Sees::Order, Sees::Reset),
                BackendSilent => (Told::Failure, Sees::Order, Sees::Reset),
                BackendCloses | BackendResets => (Told::Loss, Sees::Reset, Sees::Reset),
                ClientCloses | ClientResets => (Told::Nothing, Sees::Reset, Sees::Reset),
                ClientAborts => (Told::Abortion, Sees::Reset, Sees::Reset),
                ProxyKilled => (Told::Nothing, Sees::Reset, Sees::Reset),
            },
        };
        Some(Outcome { told, source, sink })
    }
}

/// What must come of an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub told: Told,
    pub source: Sees,
    pub sink: Sees,
}

/// What the client is told on its control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The backend's 226, and every byte has arrived.
    Confirmation,
    /// The same, and 221, and no more.
    Goodbye,
    /// The backend's own reply with this number.
    Refusal(u16),
    /// A 426 in the proxy's words.
    Failure,
    /// 426, and 226 for the ABOR.
    Abortion,
    /// 421, and no more.
    Loss,
    /// Nothing any more.
    Nothing,
}

/// How a party sees its data connection end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// With close_notify under TLS, with FIN without.
    Order,
    /// With RST, and without close_notify before it.
    Reset,
    /// It has ended the connection itself and can't see any more.
    Nothing,
}
