//! The line that `systemctl status` shows of the process.

use std::fmt;

use crate::base::text::escape;

/// The facts to be seen at a glance.
#[derive(Debug)]
pub(super) struct Status {
    pub sessions: usize,
    pub transfers: usize,
    pub is_stopping: bool,
    /// Whether a certificate can be shown: without one clients are accepted, and sent away.
    pub has_certificate: bool,
    /// The reason why the configuration in the file is refused, if it is. Every user of the machine may read the line, so it
    /// repeats nothing of the file.
    pub refusal: Option<String>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_stopping {
            f.write_str("stopping: ")?;
        }
        let plural = |count| if count == 1 { "" } else { "s" };
        let (sessions, transfers) = (self.sessions, self.transfers);
        write!(
            f,
            "{sessions} session{}, {transfers} transfer{}",
            plural(sessions),
            plural(transfers)
        )?;
        if !self.has_certificate {
            f.write_str("; no certificate yet")?;
        }
        match &self.refusal {
            // The manager takes a line, and no endless one.
            Some(refusal) => write!(
                f,
                "; reload refused, the former configuration is in force: {}",
                escape(refusal.lines().next().unwrap_or_default().as_bytes())
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(sessions: usize, transfers: usize, refusal: Option<&str>) -> Status {
        Status {
            sessions,
            transfers,
            is_stopping: false,
            has_certificate: true,
            refusal: refusal.map(str::to_owned),
        }
    }

    #[test]
    fn it_says_what_there_is() {
        assert_eq!(
            status(412, 3, None).to_string(),
            "412 sessions, 3 transfers"
        );
        assert_eq!(status(1, 1, None).to_string(), "1 session, 1 transfer");
        let stopping = Status {
            is_stopping: true,
            ..status(2, 0, None)
        };
        assert_eq!(stopping.to_string(), "stopping: 2 sessions, 0 transfers");
        let bare = Status {
            has_certificate: false,
            ..status(0, 0, None)
        };
        assert_eq!(
            bare.to_string(),
            "0 sessions, 0 transfers; no certificate yet"
        );
    }

    #[test]
    fn a_refusal_is_one_line_whatever_it_says() {
        let text = format!("{}\nREADY=1", "wrong ".repeat(1000));
        let shown = status(0, 0, Some(&text)).to_string();
        assert!(shown.starts_with(
            "0 sessions, 0 transfers; reload refused, the former configuration is in force: wrong wrong"
        ));
        assert!(!shown.contains('\n') && !shown.contains("READY"));
        assert!(shown.len() < 1000, "{}", shown.len());
    }
}
