//! An explanation, for people.

use std::io::{self, Write};

use super::decision::{AppliedRule, Certificate, ChosenSite, Explanation};

/// Writes the explanation, one subject a line.
pub(super) fn write(it: &Explanation, output: &mut impl Write) -> io::Result<()> {
    let mut line = |subject: &str, text: &str| writeln!(output, "{subject:<12} {text}");
    line("listener", &format!("{}, {} TLS", it.listener, it.tls))?;
    line("client", &it.client.to_string())?;
    let certificate = it.certificate.as_ref().map(shown);
    line(
        "certificate",
        certificate.as_deref().unwrap_or("none yet, it is ordered"),
    )?;
    if let Some(certificate) = &it.certificate_for_rsa {
        let shown = shown(certificate);
        line("", &format!("for clients without ECDSA: {shown}"))?;
    }
    if let Some(certificate) = &it.certificate_before_host {
        let shown = shown(certificate);
        line("", &format!("with HOST behind AUTH: {shown}"))?;
    }
    if let Some(reply) = &it.host_reply {
        line("HOST", reply)?;
    }
    let mut subject = "site by";
    for rule in &it.rules {
        line(std::mem::take(&mut subject), &described(rule))?;
    }
    if let Some(site) = &it.site {
        write_site(site, &mut line)?;
    }
    match &it.reply {
        Some(reply) => line("refused", &reply.replace('\n', "\n             ")),
        None if !it.served => line(
            "refused",
            "as for a wrong password, by the backend's own reply to a random password",
        ),
        None => line("served", "the backend decides about the password"),
    }
}

fn shown(certificate: &Certificate) -> String {
    let Certificate {
        name,
        subject,
        names,
        key,
    } = certificate;
    format!("{subject}, names {names}, {key} key ({name})")
}

fn described(rule: &AppliedRule) -> String {
    let mark = if rule.decides { "->" } else { "  " };
    format!("{mark} {:<13} {}", rule.rule, rule.finding)
}

fn write_site(
    site: &ChosenSite,
    line: &mut impl FnMut(&str, &str) -> io::Result<()>,
) -> io::Result<()> {
    line("site", &site.name)?;
    line("user", &site.user)?;
    match &site.group {
        Some(group) if site.unknown_user => {
            line("group", &format!("none; fails as a user of {group}"))?;
        }
        Some(group) => line("group", group)?,
        None => {}
    }
    if let Some(user) = &site.sent_user {
        line("USER sent", user)?;
        let mut subject = "backends";
        for (number, backend) in (1..).zip(&site.backends) {
            let balance = match number {
                1 => format!(", balance: {}", site.balance),
                _ => String::new(),
            };
            line(
                std::mem::take(&mut subject),
                &format!("{number}. {backend}{balance}"),
            )?;
        }
        if site.backends.is_empty() {
            line("backends", "none at the moment")?;
        }
        let data = &site.data;
        let address = match data.address {
            Some(address) => address.to_string(),
            None => "the address that the client connected to".to_owned(),
        };
        let ports = format!("{address}, ports {}-{}", data.first_port, data.last_port);
        line("data ports", &ports)?;
        line("limits", &site.limits.join("; "))?;
    }
    line("policy", &site.policies.join("; "))
}
