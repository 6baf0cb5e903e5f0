//! How fast a site's clients may transfer: rates, as they are written and as they count.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

/// Limits of the bandwidth of a site's transfers in each direction; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// All sessions of the site together.
    pub site: Option<Rate>,
    /// Each session by itself; at most as much as the site.
    pub session: Option<Rate>,
}

impl Rates {
    /// The lower one; `None` if nothing is limited.
    pub fn lowest(&self) -> Option<Rate> {
        // Each is at most the site's, so a session's own is the lower one.
        self.session.or(self.site)
    }
}

/// A number of bits a second, of payload alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

/// Why a number of bits a second can't be a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// The rate is below [`Rate::LOWEST`].
    #[error("is less than 64k, 64000 bits a second")]
    TooLow,
    /// The rate is above [`Rate::HIGHEST`].
    #[error("is more than 1000G, 1000000000000 bits a second")]
    TooHigh,
}

/// The units that rates are written in, the largest first. As everywhere with networks, they are powers of 1000.
const UNITS: [(char, u64); 3] = [('G', 1_000_000_000), ('M', 1_000_000), ('k', 1_000)];

impl Rate {
    /// 8 kB a second: well above what servers and clients take for a standstill.
    pub const LOWEST: u64 = 64_000;

    /// No network is as fast.
    pub const HIGHEST: u64 = 1_000_000_000_000;

    /// A rate of this many bits a second.
    ///
    /// # Errors
    /// If they are too few or too many.
    pub fn new(bits: u64) -> Result<Self, RateError> {
        match NonZeroU64::new(bits) {
            Some(bits) if (Self::LOWEST..=Self::HIGHEST).contains(&bits.get()) => Ok(Self(bits)),
            Some(bits) if bits.get() > Self::HIGHEST => Err(RateError::TooHigh),
            _ => Err(RateError::TooLow),
        }
    }

    /// The number that a unit stands for: 1000 for `k`, 1 for none.
    pub fn unit(text: &str) -> Option<u64> {
        let found = UNITS.iter().find(|(unit, _)| text == unit.to_string());
        match text {
            "" => Some(1),
            _ => found.map(|(_, bits)| *bits),
        }
    }

    /// How many bytes there are in this time, rounded down.
    pub fn bytes_in(self, time: Duration) -> u64 {
        let bits = time.as_nanos().saturating_mul(u128::from(self.0.get()));
        let bytes = bits / (8 * 1_000_000_000);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The time that this many bytes take.
    pub fn time_for(self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.0.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.get();
        match UNITS.iter().find(|(_, unit)| bits.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", bits / unit),
            None => write!(f, "{bits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_between_64k_and_1000g() {
        assert_eq!(Rate::new(0), Err(RateError::TooLow));
        assert_eq!(Rate::new(63_999), Err(RateError::TooLow));
        assert!(Rate::new(64_000).is_ok());
        assert!(Rate::new(Rate::HIGHEST).is_ok());
        assert_eq!(Rate::new(Rate::HIGHEST + 1), Err(RateError::TooHigh));
        assert_eq!(Rate::new(u64::MAX), Err(RateError::TooHigh));
    }

    #[test]
    fn it_is_shown_as_it_is_written() {
        for (bits, text) in [
            (64_000, "64k"),
            (50_000_000, "50M"),
            (1_000_000_000, "1G"),
            (1_500_000, "1500k"),
            (64_001, "64001"),
        ] {
            assert_eq!(Rate::new(bits).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bytes_and_times_are_of_eight_bits() {
        let rate = Rate::new(80_000).unwrap();
        assert_eq!(rate.time_for(10_000), Duration::from_secs(1));
        assert_eq!(rate.bytes_in(Duration::from_millis(500)), 5_000);
        // Nothing overflows.
        assert_eq!(rate.time_for(u64::MAX), Duration::from_nanos(u64::MAX));
        let highest = Rate::new(Rate::HIGHEST).unwrap();
        assert_eq!(highest.bytes_in(Duration::MAX), u64::MAX);
        assert_eq!(highest.time_for(1), Duration::ZERO);
    }
}
