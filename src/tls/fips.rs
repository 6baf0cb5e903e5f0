//! Whether the cryptography is that of a FIPS module: what the cargo feature `fips` promises, and what each start asks.
//!
//! docs/fips.md says what is inside the module and what is not.

use rustls::{ClientConfig, ServerConfig};

/// Built with the feature, and the cryptography isn't the module's.
#[derive(Debug, thiserror::Error)]
#[error(
    "this portcullis was built with the feature `fips`, and {0} would use cryptography that is not of a FIPS module in FIPS mode: \
     nothing is served"
)]
pub struct NotFips(&'static str);

/// Whether this program was built to use the FIPS module alone.
pub const IS_REQUIRED: bool = cfg!(feature = "fips");

/// Makes sure that both legs use the module, if they have to.
///
/// # Errors
/// If one doesn't.
pub fn check() -> Result<(), NotFips> {
    if !IS_REQUIRED {
        return Ok(());
    }
    if !server().fips() {
        return Err(NotFips("the client leg"));
    }
    if !client().fips() {
        return Err(NotFips("the backend leg"));
    }
    Ok(())
}

/// As clients get it, but for the certificate.
fn server() -> ServerConfig {
    ServerConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(std::sync::Arc::new(
            rustls::server::ResolvesServerCertUsingSni::new(),
        ))
}

/// As backends get it, but for the verifier.
fn client() -> ClientConfig {
    ClientConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configurations_are_of_the_module_if_and_only_if_that_is_required() {
        assert_eq!(server().fips(), IS_REQUIRED);
        assert_eq!(client().fips(), IS_REQUIRED);
        assert!(check().is_ok());
    }
}
