//! The legacy servers: two FTP servers in this process, one that knows no TLS and one that insists on it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use libunftp::ServerBuilder;
use libunftp::options::FtpsRequired;
use unftp_core::auth::{AuthenticationError, Authenticator, Credentials, Principal};
use unftp_sbe_fs::Filesystem;

use crate::certificates::Pair;
use crate::ports;

/// The only user, and its password.
pub const USER: &str = "demo";

/// Starts a server with one file in its folder. With `tls`, it refuses clear text.
pub fn start(
    folder: &Path,
    name: &'static str,
    greeting: &'static str,
    tls: Option<&Pair>,
) -> io::Result<SocketAddr> {
    let files = folder.join(name);
    fs::create_dir(&files)?;
    fs::write(
        files.join("welcome.txt"),
        format!("This file is at {name}.\n"),
    )?;
    // Fails here rather than at a login.
    Filesystem::new(&files)?;

    let storage = move || Filesystem::new(&files).expect("the folder was opened at the start");
    let mut builder = ServerBuilder::with_authenticator(Box::new(storage), Arc::new(OneUser))
        .greeting(greeting)
        .passive_host([127, 0, 0, 1]);
    if let Some(pair) = tls {
        builder = builder
            .ftps(&pair.certificate, &pair.private_key)
            .ftps_required(FtpsRequired::All, FtpsRequired::All);
    }
    let server = builder.build().map_err(io::Error::other)?;

    let address = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
    tokio::spawn(async move {
        if let Err(error) = server.listen(address.to_string()).await {
            eprintln!("the legacy server {name} stopped: {error}");
        }
    });
    Ok(address)
}

#[derive(Debug)]
struct OneUser;

#[async_trait]
impl Authenticator for OneUser {
    async fn authenticate(
        &self,
        user: &str,
        credentials: &Credentials,
    ) -> Result<Principal, AuthenticationError> {
        if user != USER {
            return Err(AuthenticationError::BadUser);
        }
        if credentials.password.as_deref() != Some(USER) {
            return Err(AuthenticationError::BadPassword);
        }
        Ok(Principal {
            username: user.to_owned(),
        })
    }
}
