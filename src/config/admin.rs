//! The admin endpoint's section: where it is read, with which rights, and where actions are taken.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::error::{Fault, quoted_path};
use super::file;
use super::location::{Location, steps};
use super::secret_file::SecretFile;

/// The longest path that a Unix socket can be bound to is 107 bytes (`sun_path` in unix(7), with the zero byte at its end); some
/// are needed for a name beside it while it is opened.
const MAX_SOCKET_PATH: usize = 92;

/// The admin endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where it is read over TCP; none if it isn't.
    pub address: Option<SocketAddr>,
    /// What that shows beside metrics and probes.
    pub status: Status,
    /// What clients over TCP have to know, but for probes.
    pub token: Option<SecretFile>,
    /// The Unix socket that takes actions as well; none if there is none.
    pub socket: Option<PathBuf>,
}

/// What the status page and the API show over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// They aren't there.
    Off,
    /// Everything but the names of users and files.
    Summary,
    /// Everything.
    Full,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9190))),
            status: Status::Summary,
            token: None,
            socket: None,
        }
    }
}

/// Fills in the defaults. Relative file names count from `base`.
pub(super) fn resolve(written: Option<file::Admin>, base: &Path) -> Result<AdminSettings, Fault> {
    let default = AdminSettings::default();
    let Some(written) = written else {
        return Ok(default);
    };
    let socket = written.socket.map(|socket| base.join(socket.0));
    if let Some(socket) = &socket
        && socket.as_os_str().len() > MAX_SOCKET_PATH
    {
        return Err(Fault::new(
            Location::Value(steps!["admin", "socket"]),
            format!("the path {} is too long for a socket", quoted_path(socket)),
            format!(
                "write a path of at most {MAX_SOCKET_PATH} bytes, such as /run/portcullis/admin.sock"
            ),
        ));
    }
    Ok(AdminSettings {
        address: written.address.map_or(default.address, |address| address.0),
        status: written.status.unwrap_or(default.status),
        token: written
            .token_file
            .map(|file| SecretFile::named(base.join(file.0))),
        socket,
    })
}

/// Reads the token.
pub(super) fn read_token(admin: &mut AdminSettings) -> Result<(), Fault> {
    let Some(token) = &mut admin.token else {
        return Ok(());
    };
    let read = token.read("token").and_then(|()| {
        let text = token.secret.expose();
        let is_sendable = text.iter().all(u8::is_ascii_graphic);
        is_sendable
            .then_some(())
            .ok_or_else(|| token.fault("the token has characters that no header carries"))
    });
    read.map_err(|wrong| {
        Fault::new(
            Location::Value(steps!["admin", "token_file"]),
            wrong,
            "write the name of a file here, not its contents: one that holds the token in one line, without blanks, and that Portcullis may read; \
             `openssl rand -hex 32` makes a good one",
        )
    })
}
