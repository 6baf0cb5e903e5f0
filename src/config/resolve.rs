//! From what people write to what the program runs on: defaults, and checks of one value against another.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::error::Fault;
use super::location::{Location, steps};
use super::{
    AcmeSettings, CloseNotify, GuardRules, Limits, SessionReuse, Settings, Timeouts, Tls,
    TlsVersion, UserForms, acme, admin, certificates, client_certificates, file, listeners,
    passive, scalar, sites, transfer_logs,
};

/// Fills in the defaults and refuses what can't work. Relative file names count from `base`.
pub(super) fn resolve(mut file: file::File, base: &Path) -> Result<Settings, Fault> {
    let passive_written = file
        .passive
        .as_ref()
        .is_some_and(|passive| passive.ports.is_some());
    let listeners = listeners::resolve(&file.listeners)?;
    let passive = passive::resolve(file.passive.unwrap_or_default())?;
    let admin = admin::resolve(file.admin, base)?;
    if let Some(address) = admin.address {
        listeners::refuse_shared_ports(&listeners, &passive, address, passive_written)?;
    }
    let tls = tls(&mut file.tls, base)?;
    if let Some(acme) = &tls.acme {
        listeners::refuse_challenge_at(&acme.challenge, &listeners, &passive, admin.address)?;
    }
    let defaults = sites::SiteDefaults {
        client_certificates: tls.client_certificates.as_ref(),
        session_reuse: file.tls.session_reuse.unwrap_or(SessionReuse::Prefer),
        close_notify: file.tls.close_notify.unwrap_or(CloseNotify::Require),
    };
    let sites = sites::resolve(file.sites, &listeners, defaults, base)?;
    client_certificates::refuse_without_any(tls.client_certificates.as_ref(), &sites)?;
    let forms = file.user_forms.unwrap_or_default();
    let limits = limits(file.limits.unwrap_or_default(), sites.len());
    let timeouts = timeouts(file.timeouts.unwrap_or_default());
    let guard = guard(file.guard.unwrap_or_default(), timeouts.login)?;
    Ok(Settings {
        listeners,
        greeting: file
            .greeting
            .map_or("Service ready.".into(), |greeting| greeting.0.into()),
        tls,
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
        dns_servers: dns_servers(file.dns)?,
        transfer_logs: transfer_logs::resolve(file.transfer_logs.unwrap_or_default(), base)?,
        admin,
    })
}

fn tls(written: &mut file::Tls, base: &Path) -> Result<Tls, Fault> {
    let acme = written.acme.take();
    let acme = acme.map(|acme| acme::resolve(acme, base)).transpose()?;
    let files = (written.certificate.take(), written.private_key.take());
    let (certificate, private_key) = match (files, &acme) {
        ((Some(certificate), Some(key)), _) => (base.join(certificate.0), base.join(key.0)),
        ((None, None), Some(acme)) => (acme.certificate(), acme.private_key()),
        ((certificate, _), acme) => {
            let (key, what) = match certificate {
                None => ("certificate", "a PEM file with the chain, leaf first"),
                Some(_) => ("private_key", "the PEM file with the certificate's key"),
            };
            return Err(missing(key, what, acme.as_ref()));
        }
    };
    Ok(Tls {
        client_certificates: client_certificates::resolve(
            written.client_certificates.take(),
            base,
        )?,
        more: certificates::resolve(written.more.take().unwrap_or_default(), &certificate, base)?,
        certificate,
        private_key,
        required: written.required.unwrap_or(true),
        min_version: written.min_version.unwrap_or(TlsVersion::V1_2),
        data_required: written.data_required.unwrap_or(false),
        acme,
    })
}

/// As the reader words it of keys that may never be left out.
fn missing(key: &str, what: &str, acme: Option<&AcmeSettings>) -> Fault {
    let or_none = match acme {
        Some(_) => ", or leave both files out: `acme` orders the certificate",
        None => "",
    };
    Fault::new(
        Location::Value(steps!["tls"]),
        format!("`{key}` is missing"),
        format!("add `{key}: FILE`, {what}{or_none}"),
    )
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

fn dns_servers(written: Option<file::Dns>) -> Result<Vec<SocketAddr>, Fault> {
    let Some(dns) = written else {
        return Ok(Vec::new());
    };
    if dns.servers.is_empty() {
        return Err(Fault::new(
            Location::Value(steps!["dns", "servers"]),
            "no name server",
            "write at least one, such as 10.0.0.53, or leave `dns` out for those of /etc/resolv.conf",
        ));
    }
    Ok(dns.servers.into_iter().map(|server| server.0).collect())
}

fn timeouts(file: file::Timeouts) -> Timeouts {
    let or =
        |written: Option<scalar::DurationValue>, default| written.map_or(default, |span| span.0);
    let default = Timeouts::default();
    Timeouts {
        tls_handshake: or(file.tls_handshake, default.tls_handshake),
        login: or(file.login, default.login),
        idle: or(file.idle, default.idle),
        data_port: or(file.data_port, default.data_port),
        data_connect: or(file.data_connect, default.data_connect),
        data_idle: or(file.data_idle, default.data_idle),
        final_reply: or(file.final_reply, default.final_reply),
        drain: or(file.drain, default.drain),
        lame_duck: file.lame_duck.map_or(default.lame_duck, |span| span.0),
        backend_connect: or(file.backend_connect, default.backend_connect),
        backend_attempt: file.backend_attempt.map(|span| span.0),
        backend_reply: or(file.backend_reply, default.backend_reply),
    }
}

fn guard(written: file::Guard, login: Duration) -> Result<GuardRules, Fault> {
    let span = |written: &Option<scalar::DurationValue>, default| {
        written.as_ref().map_or(default, |span| span.0)
    };
    let ten_minutes = Duration::from_secs(10 * 60);
    let max_delay = span(&written.max_delay, Duration::from_secs(10).min(login / 2));
    let delay = span(&written.delay, Duration::from_secs(1).min(max_delay));
    if max_delay >= login {
        return Err(Fault::new(
            Location::Value(steps!["guard", "max_delay"]),
            format!(
                "a reply delayed by {max_delay:?} would be too late: timeouts.login is {login:?}"
            ),
            "write less than timeouts.login, or give logins more time",
        ));
    }
    if delay > max_delay {
        return Err(Fault::new(
            Location::Value(steps!["guard", "delay"]),
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
}
