//! File descriptors: raises the limit of this process to what the system allows, and warns the operator where that is
//! too low.
//!
//! Processes begin with a soft limit that is often 1024, made for programs that use select(2), and with a hard limit far
//! above it, up to which they may go by themselves.

use std::collections::HashSet;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Settings;

/// The control and the data connections of both legs, while a transfer runs.
const PER_SESSION: u64 = 4;

/// The admin endpoint and its clients, the runtime, files that are read, names that are looked up.
const OTHERS: u64 = 128;

/// Raises the soft limit to the hard one.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, ..limit }) {
        tracing::debug!(%error, "cannot raise the limit on file descriptors");
    }
}

/// Warns if the configured sessions may need more than this process may have, beside so many sockets that a service manager has
/// passed to it: each of those is kept beside its duplicate that accepts.
pub(super) fn warn_if_low(settings: &Settings, inherited: usize) {
    let need = DescriptorNeed::of(settings, inherited);
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if need.total() > allowed {
        tracing::warn!(
            sessions = need.sessions,
            needed = need.total(),
            allowed,
            enough_for = need.sessions_within(allowed),
            "limits.sessions may need more file descriptors than this process may open; connections beyond that would \
             wait. Raise the limit (LimitNOFILE= of its systemd unit, --ulimit nofile= of its container, ulimit -n of \
             its shell), or lower limits.sessions"
        );
    }
}

/// How many descriptors a configuration may need.
struct DescriptorNeed {
    /// Independent of the number of sessions.
    fixed: u64,
    sessions: u64,
}

impl DescriptorNeed {
    fn of(settings: &Settings, inherited: usize) -> Self {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let addresses: HashSet<_> = settings
            .listeners
            .iter()
            .map(|one| one.address.ip())
            .collect();
        let passive = addresses.len() * settings.passive.ports.len();
        Self {
            fixed: count(settings.listeners.len() + passive + inherited) + OTHERS,
            sessions: count(settings.limits.sessions),
        }
    }

    fn total(&self) -> u64 {
        self.fixed
            .saturating_add(self.sessions.saturating_mul(PER_SESSION))
    }

    fn sessions_within(&self, allowed: u64) -> u64 {
        allowed.saturating_sub(self.fixed) / PER_SESSION
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::path::Path;

    fn need(listeners: &str, rest: &str) -> DescriptorNeed {
        need_beside(0, listeners, rest)
    }

    fn need_beside(inherited: usize, listeners: &str, rest: &str) -> DescriptorNeed {
        let text = format!(
            "listeners: [{listeners}]\n\
             tls: {{certificate: tls.crt, private_key: tls.key}}\n\
             sites: [{{name: ftp, default: true, backends: [{{address: 10.0.0.10}}]}}]\n{rest}\n"
        );
        let settings = config::parse(&text, Path::new("p.yaml")).expect("good");
        DescriptorNeed::of(&settings, inherited)
    }

    #[test]
    fn four_for_each_session_and_one_for_each_socket_that_listens() {
        let one = "{address: 127.0.0.1:21, tls: explicit}";
        let two = "{address: 127.0.0.1:21, tls: explicit}, {address: 127.0.0.1:990, tls: implicit}";
        let three = &format!("{two}, {{address: 127.0.0.2:21, tls: explicit}}");
        let sockets = |listeners, rest| need(listeners, rest).total() - OTHERS;
        assert_eq!(sockets(one, ""), 40_000 + 1 + 64);
        let one_port = "passive: {ports: 30000}\nlimits: {sessions: 10}";
        assert_eq!(sockets(two, one_port), 40 + 2 + 1);
        let beside_three = need_beside(3, two, one_port).total() - OTHERS;
        assert_eq!(beside_three, 40 + 2 + 1 + 3);
        let range = "passive: {ports: 50000-50099}\nlimits: {sessions: 1}";
        assert_eq!(sockets(three, range), 4 + 3 + 2 * 100);
    }

    #[test]
    fn the_sessions_that_are_said_to_fit_do() {
        for allowed in [0, 40, 100, 1_024, 20_000, 20_001, 20_002, 20_003] {
            let of = |sessions| DescriptorNeed {
                fixed: 67,
                sessions,
            };
            let fit = of(10_000).sessions_within(allowed);
            assert!(fit == 0 || of(fit).total() <= allowed, "{fit} in {allowed}");
            assert!(
                of(fit + 1).total() > allowed,
                "more than {fit} in {allowed}"
            );
        }
    }
}
