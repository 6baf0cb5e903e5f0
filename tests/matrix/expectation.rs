//! What can't be done with a server, or by a client over a leg, and why. It is tried all the same, and has to fail as it
//! is said here: should it work one day, or fail otherwise, the test fails, and this is the place to say so.
//!
//! What a client has no command for is said by [`Client::cannot`] and [`Client::cannot_have`].

use testkit::clients::DataMode;

use crate::action::Action;
use crate::client::Client;
use crate::leg::{Family, Leg, Protection};
use crate::server::Kind;

/// Something that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Why, for the document.
    pub reason: &'static str,
    /// What the report of it has to hold, one of these at least, so that no other failure passes for it.
    pub signs: &'static [&'static str],
}

/// What these two can't do, without Portcullis either; none if they can.
pub fn cannot(server: Kind, action: Action) -> Option<Failure> {
    match (server, action) {
        (Kind::Iis | Kind::IisTls, Action::Quotes) => Some(Failure {
            reason: "Windows has no `\"` in names",
            signs: &["The filename, directory name, or volume label syntax is incorrect"],
        }),
        (Kind::Pyftpdlib | Kind::PyftpdlibTls, Action::Latin1) => Some(Failure {
            reason: "pyftpdlib's names are Unicode",
            // On the server, after all commands were accepted: it has stored another name. To wget, by the server.
            signs: &["No such file or directory"],
        }),
        _ => None,
    }
}

/// How the client fails over such a leg, whatever the server; none if it doesn't.
pub fn cannot_over(client: Client, leg: Leg) -> Option<Failure> {
    match (client, leg.data, leg.protection, leg.family) {
        (Client::Curl, DataMode::Active, Protection::Explicit(_) | Protection::Implicit(_), _) => {
            Some(Failure {
                reason: "curl 7.88 begins no TLS on data connections that it accepts: it would send the file in clear \
                         text, which Portcullis refuses",
                // vsftpd gives up its control connection, too, when its data connection is reset.
                signs: &[
                    "522 No TLS handshake on the data connection, but PROT P is in force",
                    "522 Clear text on the data connection, but PROT P is in force",
                    "421 The connection to the site was lost",
                ],
            })
        }
        (Client::Lftp, DataMode::Active, _, Family::V6) => Some(Failure {
            reason: "lftp offers the address :: for active mode where it runs over the loopback interface, as here",
            signs: &["EPRT |2|::|"],
        }),
        _ => None,
    }
}
