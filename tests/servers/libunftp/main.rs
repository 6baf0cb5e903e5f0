//! libunftp 0.24 in its PROXY mode: one port takes control and data connections, and the destination in the header of each
//! says which it is, and whose.
//!
//! Arguments: the address to listen at, the port of control connections in their headers, the first and the last port of data
//! connections in theirs, a directory, and certificate and key for AUTH TLS. It takes the user `alice` with the password
//! `secret`.

use std::env;
use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use libunftp::ServerBuilder;
use unftp_core::auth::{AuthenticationError, Authenticator, Credentials, Principal};
use unftp_sbe_fs::Filesystem;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, control, first, last, root, certificate, key] = &arguments[..] else {
        return Err("arguments: ADDRESS CONTROL-PORT FIRST LAST DIRECTORY CERTIFICATE KEY".into());
    };
    let root = root.clone();
    let storage = move || Filesystem::new(&root).expect("the directory is there");
    let server = ServerBuilder::with_authenticator(Box::new(storage), Arc::new(OneUser))
        .proxy_protocol_mode(control.parse()?)
        .passive_ports(first.parse()?..=last.parse()?)
        .ftps(certificate, key)
        .build()?;
    Ok(server.listen(address.clone()).await?)
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
        if user != "alice" {
            return Err(AuthenticationError::BadUser);
        }
        if credentials.password.as_deref() != Some("secret") {
            return Err(AuthenticationError::BadPassword);
        }
        Ok(Principal {
            username: user.to_owned(),
        })
    }
}
