//! What is read of certificates in more than one place.

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
