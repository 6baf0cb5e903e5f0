//! The error where this is built without the feature.

use std::time::SystemTime;

use super::{PfxError, Request};
use crate::base::text::escape_path;
use crate::tls::Assembled;

/// Says what to do.
pub(super) fn read(request: &Request<'_>, _now: SystemTime) -> Result<Assembled, PfxError> {
    let (file, out) = (escape_path(request.file), escape_path(request.out));
    let name = super::name(request)?;
    let password = match request.password_file {
        Some(file) => format!(" -passin file:{}", escape_path(file)),
        None => String::new(),
    };
    Err(PfxError::File {
        file: request.file.to_owned(),
        what: format!(
            "this portcullis was built without the feature `pfx`: take one from a package, or build it by `cargo build --release \
             --features pfx`. OpenSSL does the same, but for the checks, which `portcullis check` makes:\n  \
             (umask 077; openssl pkcs12 -in {file}{password} -nocerts -noenc -out {out}/{name}.key)\n  \
             openssl pkcs12 -in {file}{password} -nokeys -out {out}/{name}.crt\n\
             Files of Windows before 2019 need -legacy as well; of several certificates, the server's own has to come first"
        ),
    })
}
