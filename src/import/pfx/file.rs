//! From the file to a pair: its content, by the crate that is for that, in order.

use std::time::SystemTime;

use super::{PfxError, Request, TIME_LIMIT};
use crate::base::file::{ReadError, read_bounded};
use crate::config::SecretFile;
use crate::tls::{Assembled, assemble};

/// Reads the PKCS#12 file; of several certificates one that is valid at `now` counts.
pub(super) fn read(request: &Request<'_>, now: SystemTime) -> Result<Assembled, PfxError> {
    let of_file = |what: String| PfxError::File {
        file: request.file.to_owned(),
        what,
    };
    let password = request.password_file.map(|file| {
        SecretFile::read_password(file).map_err(|what| PfxError::Password {
            file: file.to_owned(),
            what,
        })
    });
    let password = password.transpose()?;
    let bytes = read_bounded(request.file, portcullis_pfx::MAX_FILE).map_err(|error| {
        of_file(match error {
            ReadError::Io(cause) => format!("it can't be read: {cause}"),
            ReadError::NotAFile => "not a regular file".to_owned(),
            ReadError::TooLong => portcullis_pfx::PfxError::TooLarge.to_string(),
        })
    })?;
    let password = password.as_ref().map(|secret| secret.expose());
    let contents = portcullis_pfx::read(bytes, password, TIME_LIMIT)
        .map_err(|error| of_file(error.to_string()))?;
    assemble(&contents.keys, &contents.certificates, now)
        .map_err(|error| of_file(error.to_string()))
}
