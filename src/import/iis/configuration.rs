//! The configuration with its comments.

use super::backend::BackendTls;
use super::certificate_trap::{DecidedBy, Shown};
use super::networks::Clients;
use super::plan::Plan;
use super::site_plan::{SitePlan, Standing};
use super::yaml::{Lines, Scalar, list};
use super::{Options, shown_certificate};
use crate::base::text::escape;

/// The text of the configuration file.
pub fn text(plan: &Plan<'_>, options: &Options<'_>) -> String {
    let mut lines = Lines::default();
    head(&mut lines, plan);
    lines.line("");
    lines.line("listeners:");
    for listener in &plan.listeners {
        let tls = if listener.is_implicit {
            "implicit"
        } else {
            "explicit"
        };
        let address = listener.address.to_string();
        lines.line(format!("  - address: {}", Scalar(&address)));
        lines.line(format!("    tls: {tls}"));
    }
    if let Some(greeting) = &plan.greeting {
        lines.line("");
        lines.line(format!("greeting: {}", Scalar(greeting)));
    }
    lines.line("");
    tls(&mut lines, plan, options);
    lines.line("");
    passive(&mut lines, plan);
    if plan.backslash_names_host {
        lines.line("");
        lines.comment("", "useDomainNameAsHostName of IIS.", "");
        lines.line("user_forms:");
        lines.line("  host_backslash_user: true");
    }
    if let Some(most) = plan.sessions_per_site {
        lines.line("");
        lines.comment("", "maxConnections of each site in IIS.", "");
        lines.line("limits:");
        lines.line(format!("  sessions_per_site: {most}"));
    }
    lines.line("");
    lines.line("sites:");
    for (number, planned) in plan.sites.iter().enumerate() {
        if number > 0 {
            lines.line("");
        }
        site(&mut lines, planned);
    }
    lines.into_text()
}

fn head(lines: &mut Lines, plan: &Plan<'_>) {
    for text in [
        "FTP sites of IIS, by `portcullis import iis`.",
        "",
        "IIS shows one certificate at each address and port, whatever site its users want:",
    ] {
        lines.comment("", text, "");
    }
    for shown in plan.shown.values() {
        lines.comment("", &format!("- {}", certificate(shown)), "  ");
    }
    for text in [
        "Portcullis shows the certificate below for all of them, and new contents of its file are taken up at once.",
        "",
        "Before clients come here:",
    ] {
        lines.comment("", text, "");
    }
    for text in [
        "- Put the certificate with its chain, and its key, as PEM into the files that `tls` names (from a PFX: openssl pkcs12).",
        "- Have names and addresses of the old server, and the ports that firewalls forward, lead to this machine, and IIS keep an \
         address that only this machine reaches.",
        "- Run `portcullis check --config FILE`, then `portcullis probe --config FILE`, which tries everything but a login.",
        "IIS goes on deciding about accounts, authorization rules, home directories, request filtering and time limits.",
    ] {
        let hang = if text.starts_with('-') { "  " } else { "" };
        lines.comment("", text, hang);
    }
    if !plan.attention.is_empty() {
        lines.comment("", "", "");
        lines.comment(
            "",
            "What needs attention, besides what stands at the sites:",
            "",
        );
        for text in &plan.attention {
            lines.comment("", &format!("- {text}."), "  ");
        }
    }
}

/// The text about the certificate that is shown at an address and port, and whom that concerns.
pub fn certificate(shown: &Shown<'_>) -> String {
    let whose = match shown.decided_by {
        DecidedBy::Site(site) => format!("site \"{}\"", escape(site.name.as_bytes())),
        DecidedBy::Server => {
            "the server's own FTP SSL settings, since no site there is without a host name"
                .to_owned()
        }
    };
    let what = match shown.certificate {
        Some(certificate) => format!(
            "everybody is shown the certificate of {whose} ({})",
            shown_certificate(certificate)
        ),
        None => format!(
            "nobody can use TLS: the certificate would be that of {whose}, and there is none"
        ),
    };
    let others = match &shown.others[..] {
        [] => String::new(),
        hosts => {
            let hosts: Vec<String> = hosts.iter().map(|host| escape(host.as_bytes())).collect();
            let more = match shown.more {
                0 => String::new(),
                more => format!(" and {more} more hosts"),
            };
            format!("; the users of {}{more} as well", hosts.join(", "))
        }
    };
    format!("{}: {what}{others}", shown.endpoint)
}

fn tls(lines: &mut Lines, plan: &Plan<'_>, options: &Options<'_>) {
    lines.line("tls:");
    lines.line(format!("  certificate: {}", Scalar(options.certificate)));
    lines.line(format!("  private_key: {}", Scalar(options.private_key)));
    if !plan.tls_required {
        let text = "All sites may be used without TLS in IIS: passwords cross in clear text then.";
        lines.comment("  ", text, "");
    }
    lines.line(format!("  required: {}", plan.tls_required));
    lines.line(format!("  data_required: {}", plan.data_required));
}

fn passive(lines: &mut Lines, plan: &Plan<'_>) {
    let (first, last) = (plan.data_ports.start(), plan.data_ports.end());
    lines.line("passive:");
    if let Some(of_iis) = &plan.data_ports_of_iis
        && *of_iis != plan.data_ports
    {
        let text = format!(
            "{}-{} in IIS. Each of them is listened on, and few are enough (docs/operations.md).",
            of_iis.start(),
            of_iis.end()
        );
        lines.comment("  ", &text, "");
    }
    lines.line(format!("  ports: {first}-{last}"));
    if let Some(address) = plan.announced {
        let text = "externalIp4Address of IIS: the firewall has to forward it to this machine.";
        lines.comment("  ", text, "");
        lines.line(format!("  address: {address}"));
    }
}

fn site(lines: &mut Lines, plan: &SitePlan<'_>) {
    if plan.name != plan.site.name {
        let name = escape(plan.site.name.as_bytes());
        lines.comment("  ", &format!("\"{name}\" in IIS."), "");
    }
    for text in &plan.attention {
        lines.comment("  ", &format!("Attention: {text}."), "");
    }
    for text in &plan.remarks {
        lines.comment("  ", text, "");
    }
    if plan.standing == Standing::Comment {
        lines.begin_with("# ");
    }
    lines.line(format!("  - name: {}", Scalar(&plan.name)));
    if plan.is_default {
        lines.line("    default: true");
    }
    if !plan.hosts.is_empty() {
        lines.line(format!("    hosts: {}", list(&plan.hosts)));
    }
    lines.line("    backends:");
    lines.line(format!(
        "      - address: {}",
        Scalar(&plan.backend.address)
    ));
    let start = match plan.backend.tls {
        BackendTls::None => None,
        BackendTls::Explicit => Some("explicit"),
        BackendTls::Implicit => Some("implicit"),
    };
    if let Some(start) = start {
        lines.line(format!("        tls: {start}"));
        lines.line("        verify: none");
    }
    if let Some(user) = &plan.backend.user {
        lines.line(format!("    user: {}", Scalar(user)));
    }
    policy(lines, plan);
    lines.begin_with("");
}

fn policy(lines: &mut Lines, plan: &SitePlan<'_>) {
    match &plan.clients {
        Clients::Everybody => {}
        Clients::Nobody => lines.line("    maintenance: \"This site is closed.\""),
        Clients::Some { allow, deny } => {
            lines.line("    clients:");
            if let Some(allow) = allow {
                lines.line(format!("      allow: {}", list(allow)));
            }
            if !deny.is_empty() {
                lines.line(format!("      deny: {}", list(deny)));
            }
        }
    }
    if !plan.denied.is_empty() {
        lines.line("    commands:");
        lines.line(format!("      deny: {}", list(&plan.denied)));
    }
}
