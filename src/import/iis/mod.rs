//! The `applicationHost.config` of IIS: from its bytes to a configuration, without a file or a socket.
//!
//! `document` makes elements of bytes, and `read` a `model` of those, by the rules of `inheritance`. `plan` decides what becomes
//! of it, with `site_plan` for each site, `backend` for where IIS serves it, and `networks` for its address rules;
//! `configuration` writes that down as `yaml`. `certificate_trap` finds the certificates that IIS shows today.

mod backend;
mod certificate_trap;
mod configuration;
mod document;
mod inheritance;
mod model;
mod networks;
mod plan;
mod read;
mod site_plan;
mod yaml;

use std::net::IpAddr;
use std::path::Path;

use crate::base::text::escape;
use crate::config::{self, HostName};

use self::document::DocumentError;
use self::model::Certificate;
use self::read::ReadError;
use self::site_plan::Standing;

/// The settings that the file doesn't have.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The name or address by which Portcullis reaches IIS.
    pub backend: Option<&'a str>,
    /// The file of the certificate.
    pub certificate: &'a str,
    /// The file of its key.
    pub private_key: &'a str,
}

/// The configuration made, with remarks for the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct Imported {
    /// The text of the configuration file.
    pub configuration: String,
    /// The certificate that IIS shows, a line for each of its addresses and ports.
    pub certificates: Vec<String>,
    /// Points that aren't carried over as they were, or won't work without a change by hand.
    pub attention: Vec<String>,
}

/// The reason why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file can't be read as a document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The file has nothing to carry over.
    #[error(transparent)]
    Content(#[from] ReadError),
    /// The given backend is neither a host name nor an address of another machine, so nothing can be connected to.
    #[error("--backend: `{0}` is neither a host name nor an IP address of another machine")]
    Backend(String),
    /// Each site is left out.
    #[error("none of the FTP sites can be carried over:\n{}", .0.join("\n"))]
    NoSite(Vec<String>),
    /// The content of the file makes no configuration.
    #[error("what the file says can't be written as a configuration:\n{0}")]
    Unusable(#[from] config::Error),
}

/// Makes a configuration of the bytes of the file.
///
/// # Errors
/// If none can be made of them.
pub fn import(bytes: &[u8], options: &Options<'_>) -> Result<Imported, ImportError> {
    let backend = options.backend.map(backend_host).transpose()?;
    let root = document::parse(bytes)?;
    let server = read::server(&root)?;
    let plan = plan::plan(&server, backend.as_deref());
    let of_sites = plan.sites.iter().flat_map(|site| {
        let texts = site.attention.iter();
        texts.map(|text| format!("site {}: {text}", site.name))
    });
    let attention: Vec<String> = plan.attention.iter().cloned().chain(of_sites).collect();
    let is_left_out = |site: &site_plan::SitePlan| site.standing == Standing::Comment;
    if plan.sites.iter().all(is_left_out) {
        return Err(ImportError::NoSite(attention));
    }
    let configuration = configuration::text(&plan, options);
    config::parse(&configuration, Path::new("portcullis.yaml"))?;
    Ok(Imported {
        configuration,
        certificates: plan
            .shown
            .values()
            .map(configuration::certificate)
            .collect(),
        attention,
    })
}

/// A host as backends have it, without brackets. Portcullis listens at every address of its own machine.
fn backend_host(text: &str) -> Result<String, ImportError> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let bare = bare.unwrap_or(text);
    let is_elsewhere = match bare.parse::<IpAddr>() {
        Ok(address) => {
            let address = address.to_canonical();
            !(address.is_loopback() || address.is_unspecified() || address.is_multicast())
        }
        Err(_) => HostName::parse(bare.as_bytes()).is_some_and(|host| host.as_str() != "localhost"),
    };
    if is_elsewhere {
        Ok(bare.to_owned())
    } else {
        Err(ImportError::Backend(escape(text.as_bytes())))
    }
}

fn shown_certificate(certificate: &Certificate) -> String {
    format!(
        "thumbprint {}, store {}",
        escape(certificate.thumbprint.as_bytes()),
        escape(certificate.store.as_bytes())
    )
}

#[cfg(test)]
mod tests;
