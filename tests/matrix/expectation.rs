//! What a client with a server, or over a leg, can't do, and why. It is tried all the same: should it work one day, the
//! test fails, and this is the place to say so.
//!
//! What a client has no command for is said by [`Client::cannot`] and [`Client::cannot_have`].

use crate::action::Action;
use crate::client::Client;
use crate::leg::{Family, Leg, Protection};
use crate::server::Kind;
use crate::support::clients::DataMode;

/// Something that fails, and its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cannot {
    /// Without Portcullis, too: between these two it never works.
    AlsoDirectly(&'static str),
    /// It works without Portcullis. Each of these is a promise not kept, and has a reason that can't be mended.
    ThroughPortcullis(&'static str),
}

/// What these two can't do; none if they can.
pub fn cannot(client: Client, server: Kind, action: Action) -> Option<Cannot> {
    use Cannot::{AlsoDirectly, ThroughPortcullis};
    match (client, server, action) {
        (_, Kind::Iis | Kind::IisTls, Action::Quotes) => {
            Some(AlsoDirectly("Windows has no `\"` in names"))
        }
        (_, Kind::Pyftpdlib | Kind::PyftpdlibTls, Action::Latin1) => {
            Some(AlsoDirectly("pyftpdlib's names are Unicode"))
        }
        (Client::Ncftp, Kind::Iis | Kind::IisTls, Action::Tree) => Some(ThroughPortcullis(
            "the download finds no files, since NcFTP expects a listing in the manner of DOS only from a server whose \
             greeting is that of IIS, and Portcullis greets before it knows the site",
        )),
        _ => None,
    }
}

/// Why the client fails over such a leg, whatever the server; none if it doesn't.
pub fn cannot_over(client: Client, leg: Leg) -> Option<&'static str> {
    match (client, leg.data, leg.protection, leg.family) {
        (Client::Curl, DataMode::Active, Protection::Explicit(_) | Protection::Implicit(_), _) => {
            Some("curl 7.88 begins no TLS on data connections that it accepts")
        }
        (Client::Lftp, DataMode::Active, _, Family::V6) => Some(
            "lftp offers the address :: for active mode where it runs over the loopback interface, as here",
        ),
        _ => None,
    }
}
