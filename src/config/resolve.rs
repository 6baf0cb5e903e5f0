//! From what people write to what the program runs on: defaults, and checks of one value against another.

use super::error::Fault;
use super::structure::{Place, Step, steps};
use super::{
    GuardRules, Limits, Listener, Passive, SessionReuse, Settings, Timeouts, Tls, TlsVersion,
    UserForms, file, passive, scalar, sites,
};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Fills in the defaults and refuses what can't work. Relative file names count from `base`.
pub(super) fn resolve(file: file::File, base: &Path) -> Result<Settings, Fault> {
    let passive_written = file
        .passive
        .as_ref()
        .is_some_and(|passive| passive.ports.is_some());
    let listeners = listeners(&file.listeners)?;
    let passive = passive::resolve(file.passive.unwrap_or_default())?;
    let admin = file
        .admin
        .and_then(|admin| admin.address)
        .map_or(default_admin(), |address| address.0);
    refuse_shared_ports(&listeners, &passive, admin, passive_written)?;
    let reuse = file.tls.session_reuse.unwrap_or(SessionReuse::Prefer);
    let sites = sites::resolve(file.sites, &listeners, reuse, base)?;
    let forms = file.user_forms.unwrap_or_default();
    let limits = limits(file.limits.unwrap_or_default(), sites.len());
    let timeouts = timeouts(file.timeouts.unwrap_or_default());
    let guard = guard(file.guard.unwrap_or_default(), timeouts.login)?;
    Ok(Settings {
        listeners,
        tls: Tls {
            certificate: base.join(file.tls.certificate.0),
            private_key: base.join(file.tls.private_key.0),
            required: file.tls.required.unwrap_or(true),
            min_version: file.tls.min_version.unwrap_or(TlsVersion::V1_2),
            data_required: file.tls.data_required.unwrap_or(false),
        },
        passive,
        user_forms: UserForms {
            user_at_host: forms.user_at_host.unwrap_or(false),
            host_backslash_user: forms.host_backslash_user.unwrap_or(false),
        },
        sites,
        active_mode: file.active_mode.unwrap_or(true),
        limits,
        guard,
        timeouts,
        admin,
    })
}

fn limits(written: file::Limits, sites: usize) -> Limits {
    let or = |written: &Option<scalar::Count>, default| {
        written.as_ref().map_or(default, |count| count.0)
    };
    let sessions = or(&written.sessions, 10_000);
    // Some places stay for the others.
    let share = if sites > 1 {
        sessions - sessions / 10
    } else {
        sessions
    };
    Limits {
        sessions,
        sessions_per_site: or(&written.sessions_per_site, share),
        sessions_per_client: or(&written.sessions_per_client, 100),
        sessions_per_client_per_minute: u32::try_from(or(
            &written.sessions_per_client_per_minute,
            6_000,
        ))
        .ok()
        .and_then(NonZeroU32::new)
        .unwrap_or(NonZeroU32::MAX),
        allow: networks(written.allow),
    }
}

fn timeouts(file: file::Timeouts) -> Timeouts {
    let or = |written: Option<scalar::Span>, seconds| {
        written.map_or(Duration::from_secs(seconds), |span| span.0)
    };
    Timeouts {
        tls_handshake: or(file.tls_handshake, 10),
        login: or(file.login, 30),
        idle: or(file.idle, 5 * 60),
        data_port: or(file.data_port, 10),
        data_connect: or(file.data_connect, 20),
        data_idle: or(file.data_idle, 2 * 60),
        final_reply: or(file.final_reply, 10 * 60),
        drain: or(file.drain, 5 * 60),
        backend_connect: or(file.backend_connect, 10),
        backend_reply: or(file.backend_reply, 60),
    }
}

fn guard(written: file::Guard, login: Duration) -> Result<GuardRules, Fault> {
    let span =
        |written: &Option<scalar::Span>, default| written.as_ref().map_or(default, |span| span.0);
    let ten_minutes = Duration::from_secs(10 * 60);
    let max_delay = span(&written.max_delay, Duration::from_secs(10).min(login / 2));
    let delay = span(&written.delay, Duration::from_secs(1).min(max_delay));
    if max_delay >= login {
        return Err(Fault::new(
            Place::Value(steps!["guard", "max_delay"]),
            format!(
                "a reply held back for {max_delay:?} would come too late: timeouts.login is {login:?}"
            ),
            "write less than timeouts.login, or give logins more time",
        ));
    }
    if delay > max_delay {
        return Err(Fault::new(
            Place::Value(steps!["guard", "delay"]),
            format!("{delay:?} is longer than guard.max_delay ({max_delay:?})"),
            "write at most guard.max_delay",
        ));
    }
    Ok(GuardRules {
        failures: written
            .failures
            .map_or(20, |count| u32::try_from(count.0).unwrap_or(u32::MAX)),
        window: span(&written.window, ten_minutes),
        delay,
        max_delay,
        block: span(&written.block, ten_minutes),
        allow: networks(written.allow),
    })
}

fn networks(written: Option<Vec<scalar::Network>>) -> Vec<IpNet> {
    let written = written.unwrap_or_default();
    written.into_iter().map(|network| network.0).collect()
}

fn default_admin() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9190))
}

fn listeners(written: &[file::Listener]) -> Result<Vec<Listener>, Fault> {
    if written.is_empty() {
        return Err(Fault::new(
            Place::Key(steps!["listeners"]),
            "no listener, so no client could connect",
            "write at least one, such as `- {address: 0.0.0.0:21, tls: explicit}`",
        ));
    }
    let mut listeners: Vec<Listener> = Vec::with_capacity(written.len());
    for (index, listener) in written.iter().enumerate() {
        let address = listener.address.0;
        if let Some(other) = listeners
            .iter()
            .find(|other| overlap(other.address, address))
        {
            return Err(Fault::new(
                Place::Value(steps!["listeners", index, "address"]),
                format!("{address} is taken: another listener has {}", other.address),
                "give each listener an address and port of its own; 0.0.0.0 is every IPv4 address, \
                 and [::] every IPv6 address",
            ));
        }
        let proxy_protocol = listener.proxy_protocol.as_ref();
        listeners.push(Listener {
            address,
            tls: listener.tls,
            proxy_protocol: proxy_protocol
                .map(|written| trusted(&written.trusted, index))
                .transpose()?,
        });
    }
    Ok(listeners)
}

/// The balancers of listener number `listener`. Whoever is in these networks may claim to be anybody.
fn trusted(written: &[scalar::Network], listener: usize) -> Result<Arc<[IpNet]>, Fault> {
    let path = || steps!["listeners", listener, "proxy_protocol", "trusted"];
    if written.is_empty() {
        return Err(Fault::new(
            Place::Key(path()),
            "no network is trusted, so every connection to this listener would be closed",
            "write the networks or addresses of your load balancers, such as [10.0.0.0/8]",
        ));
    }
    for (index, network) in written.iter().enumerate() {
        if network.0.prefix_len() == 0 {
            let place = path().into_iter().chain([Step::from(index)]).collect();
            return Err(Fault::new(
                Place::Value(place),
                format!(
                    "{} trusts everybody: whoever reaches this listener could claim any address",
                    network.0
                ),
                "write the networks or addresses of your load balancers alone",
            ));
        }
    }
    Ok(written.iter().map(|network| network.0).collect())
}

/// Passive ports are listened on at every address, so nothing else may have one.
fn refuse_shared_ports(
    listeners: &[Listener],
    passive: &Passive,
    admin: SocketAddr,
    passive_written: bool,
) -> Result<(), Fault> {
    let is_passive = |port: u16| port != 0 && passive.ports.contains(&port);
    let range = format!("{}-{}", passive.ports.start(), passive.ports.end());
    for (index, listener) in listeners.iter().enumerate() {
        let place = Place::Value(steps!["listeners", index, "address"]);
        if is_passive(listener.address.port()) {
            return Err(Fault::new(
                place,
                format!(
                    "port {} is in passive.ports ({range}) too",
                    listener.address.port()
                ),
                "choose a port outside that range, or other passive ports",
            ));
        }
        if overlap(listener.address, admin) {
            return Err(Fault::new(
                place,
                format!("{} is taken: admin.address is {admin}", listener.address),
                "give the listener and the admin endpoint ports of their own",
            ));
        }
    }
    if is_passive(admin.port()) {
        let place = if passive_written {
            steps!["passive", "ports"]
        } else {
            steps!["admin", "address"]
        };
        return Err(Fault::new(
            Place::Value(place),
            format!(
                "port {} is in both admin.address and passive.ports ({range})",
                admin.port()
            ),
            "choose passive ports that nothing else uses",
        ));
    }
    Ok(())
}

/// Whether the operating system would refuse one of the two. Port 0 is another port each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

/// Whether listening on `wildcard` takes `address` too: 0.0.0.0 does for IPv4, and [::], as listeners are opened
/// here, for IPv6 alone.
pub(super) fn covers(wildcard: IpAddr, address: IpAddr) -> bool {
    wildcard.is_unspecified() && wildcard.is_ipv6() == address.is_ipv6()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_sites_leaves_a_tenth_of_the_sessions_to_the_others() {
        let share = |sessions: Option<usize>, sites| {
            let written = file::Limits {
                sessions: sessions.map(scalar::Count),
                ..file::Limits::default()
            };
            limits(written, sites).sessions_per_site
        };
        assert_eq!(share(None, 1), 10_000);
        assert_eq!(share(None, 2), 9_000);
        assert_eq!(share(Some(3), 2), 3);
    }

    #[test]
    fn listeners_overlap_as_the_operating_system_sees_it() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (
                one.parse().expect("an address"),
                other.parse().expect("an address"),
            );
            assert_eq!(super::overlap(one, other), super::overlap(other, one));
            super::overlap(one, other)
        };
        assert!(overlap("0.0.0.0:21", "10.0.0.1:21"));
        assert!(!overlap("[::]:21", "0.0.0.0:21"));
        assert!(overlap("[::]:21", "[fd00::1]:21"));
        assert!(overlap("[::ffff:10.0.0.1]:21", "10.0.0.1:21"));
        assert!(!overlap("0.0.0.0:21", "[fd00::1]:21"));
        assert!(!overlap("10.0.0.1:21", "10.0.0.2:21"));
        assert!(!overlap("0.0.0.0:0", "0.0.0.0:0"));
        assert!(!overlap("0.0.0.0:21", "0.0.0.0:990"));
    }
}
