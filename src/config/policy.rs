//! What a site of a configuration file allows its clients.

use ipnet::IpNet;

use super::error::Fault;
use super::file;
use super::location::{Location, steps};
use super::scalar::{Network, NoticeText};
use crate::policy::clients::ShutOut;
use crate::policy::{CertificateRules, ClientRules, CommandRules, Rates, SitePolicy};

/// The policy of site number `site`.
pub(super) fn resolve(
    clients: Option<file::Clients>,
    client_certificate: Option<CertificateRules>,
    commands: Option<file::Commands>,
    maintenance: Option<NoticeText>,
    login_text: Option<NoticeText>,
    rate: Option<file::RateLimits>,
    site: usize,
) -> Result<SitePolicy, Fault> {
    Ok(SitePolicy {
        clients: clients.map_or(Ok(ClientRules::default()), |it| client_rules(it, site))?,
        client_certificate,
        commands: commands.map_or(Ok(CommandRules::default()), |it| command_rules(it, site))?,
        maintenance: maintenance.map(|text| text.0),
        login_text: login_text.map(|text| text.0),
        rates: rate.map_or(Ok(Rates::default()), |it| rates(&it, site))?,
    })
}

fn client_rules(written: file::Clients, site: usize) -> Result<ClientRules, Fault> {
    let networks = |all: Vec<Network>| all.into_iter().map(|network| network.0).collect();
    let key = match written.allow {
        Some(_) => "allow",
        None => "deny",
    };
    let deny: Vec<IpNet> = written.deny.map(networks).unwrap_or_default();
    if written.allow.is_none() && deny.is_empty() {
        return Err(Fault::new(
            Location::Value(steps!["sites", site, "clients"]),
            "`clients` without `allow` and `deny` says nothing",
            "write `allow: [10.0.0.0/8]` or `deny: [10.9.0.0/16]`, or leave `clients` out",
        ));
    }
    ClientRules::new(written.allow.map(networks), deny).map_err(|shut_out| {
        let what = match shut_out {
            ShutOut::NoneAllowed => "no network is allowed, so no client could log in".to_owned(),
            ShutOut::AllDenied { .. } if key == "deny" => {
                "no client could log in: every address is denied".to_owned()
            }
            ShutOut::AllDenied { allowed, denied } => format!(
                "no client could log in: each network that is allowed lies within a denied one, such as {allowed} within {denied}"
            ),
        };
        Fault::new(
            Location::Value(steps!["sites", site, "clients", key]),
            what,
            "leave networks for clients; `maintenance` takes a site out of service",
        )
    })
}

fn command_rules(written: file::Commands, site: usize) -> Result<CommandRules, Fault> {
    let rules = CommandRules::new(written.preset, written.deny.unwrap_or_default());
    if rules.is_empty() {
        return Err(Fault::new(
            Location::Value(steps!["sites", site, "commands"]),
            "`commands` without `preset` and `deny` says nothing",
            "write `preset: read_only`, `preset: upload_only` or `deny: [DELE]`, or leave `commands` out",
        ));
    }
    Ok(rules)
}

fn rates(written: &file::RateLimits, site: usize) -> Result<Rates, Fault> {
    let rates = Rates {
        site: written.site,
        session: written.session,
    };
    match (rates.site, rates.session) {
        (None, None) => Err(Fault::new(
            Location::Value(steps!["sites", site, "rate"]),
            "`rate` without `site` and `session` says nothing",
            "write `site: 500M` for all sessions together, `session: 50M` for each, or leave `rate` out",
        )),
        (Some(all), Some(each)) if each > all => Err(Fault::new(
            Location::Value(steps!["sites", site, "rate", "session"]),
            format!("{each} for a session is more than {all}, which all of the site share"),
            "write at most the rate of the site, or leave one of the two out",
        )),
        _ => Ok(rates),
    }
}
