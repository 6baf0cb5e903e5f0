//! A note on the admin endpoint.

use super::{Note, NoteCode};
use crate::config::{AdminSettings, Status};

/// The note about the admin endpoint, if anything about it is worth one.
pub(super) fn notes(admin: &AdminSettings) -> Option<Note> {
    let address = admin.address?;
    let is_open = !address.ip().to_canonical().is_loopback() && admin.token.is_none();
    (is_open && admin.status == Status::Full).then(|| {
        Note::warning(
            NoteCode::AdminOpen,
            format!(
                "admin: {address} is not a loopback address and has no token, so any host that can connect may read the names of \
                 users and files: write `token_file`, `status: summary`, or a loopback address such as 127.0.0.1:{}",
                address.port()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretFile;

    #[test]
    fn names_that_are_shown_to_the_network_without_a_token_are_noted() {
        let noted = |address: &str, status, token| {
            let admin = AdminSettings {
                address: Some(address.parse().expect("an address")),
                status,
                token,
                socket: None,
            };
            notes(&admin).map(|note| note.code)
        };
        let token = || {
            Some(SecretFile {
                path: "token".into(),
                secret: crate::base::secret::Secret::new(b"token".to_vec()),
            })
        };
        let open = Some(NoteCode::AdminOpen);
        for address in ["0.0.0.0:9190", "[::]:9190", "10.0.0.5:9190"] {
            assert_eq!(noted(address, Status::Full, None), open, "{address}");
            assert_eq!(noted(address, Status::Full, token()), None, "{address}");
            assert_eq!(noted(address, Status::Summary, None), None, "{address}");
        }
        for address in ["127.0.0.1:9190", "[::1]:9190"] {
            assert_eq!(noted(address, Status::Full, None), None, "{address}");
        }
    }
}
