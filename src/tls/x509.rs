//! Functions on X.509 certificates that more than one module needs.

use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Name;

use crate::base::text::escape;

/// A name in a certificate, chosen by its requester, escaped so that it is safe wherever it is shown.
pub(super) fn escaped_name(name: &X509Name<'_>) -> String {
    escape(name.to_string().as_bytes())
}

/// Whether certificates may be verified by this one as a trust anchor: a CA certificate, or one that is self-issued. Old roots
/// have no extensions, and those of a trust anchor are not looked at.
pub(super) fn may_be_issuer(certificate: &X509Certificate<'_>) -> bool {
    certificate.is_ca() || certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// Whether the certificate's purposes, if it has any, are a TLS client's among others (RFC 5280 §4.2.1.12). `anyExtendedKeyUsage`
/// alone is not enough: OpenSSL and webpki refuse it from a client.
pub(super) fn is_for_clients(certificate: &X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(Some(purposes)) => purposes.value.client_auth,
        Ok(None) => true,
        Err(_) => false,
    }
}
