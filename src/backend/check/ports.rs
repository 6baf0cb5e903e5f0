//! The methods by which a check asks a backend for data connections, one after the other: those of sessions, in their order, as
//! if the client had asked by EPSV.

use super::CheckError;
use crate::backend::control::ReplyError;
use crate::config::PassiveMode;
use crate::ftp::port_methods::BackendPorts;
use crate::ftp::reply::Class;
use crate::ftp::server::{PortMethod, PortMethods};

/// The methods that are left.
#[derive(Debug)]
pub(super) struct MethodsLeft {
    ports: BackendPorts,
    tried: PortMethods,
    /// Whether a passive method may do: it was not refused for good. Sessions would get their data by PORT then, but of a server
    /// whose data ports can't be reached the operator wants to hear.
    may_be_passive: bool,
}

impl MethodsLeft {
    /// All methods that these ports allow.
    pub fn new(ports: BackendPorts) -> Self {
        Self {
            ports,
            tried: PortMethods::NONE,
            may_be_passive: false,
        }
    }

    /// The next method to ask by.
    pub fn next(&mut self) -> Option<PortMethod> {
        let next = self.ports.next(PortMethod::Epsv, self.tried)?;
        let is_last_resort = next == PortMethod::Active && self.ports.mode == PassiveMode::Auto;
        if is_last_resort && self.may_be_passive {
            return None;
        }
        self.tried = self.tried.and(next);
        Some(next)
    }

    /// Takes the result of asking by the method before.
    pub fn note<T>(&mut self, result: &Result<T, CheckError>) {
        let is_refused = matches!(result, Err(CheckError::NoPort(ReplyError::Rejected(reply)))
            if reply.class() != Class::TransientFailure);
        self.may_be_passive |= !is_refused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::line::Line;
    use crate::ftp::reply::ReplyParser;

    const PORTS: BackendPorts = BackendPorts {
        mode: PassiveMode::Auto,
        ipv6: false,
        avoid: PortMethods::NONE,
    };

    fn rejected(line: &'static [u8]) -> CheckError {
        let reply = ReplyParser::default().push(Line::Whole(line.into()));
        let reply = reply.expect("a reply").expect("a whole one");
        CheckError::NoPort(ReplyError::Rejected(reply))
    }

    /// The methods by which a backend is asked, each with this result.
    fn asked(
        ports: BackendPorts,
        result: impl Fn(PortMethod) -> Result<(), CheckError>,
    ) -> Vec<PortMethod> {
        let mut left = MethodsLeft::new(ports);
        let mut asked = Vec::new();
        while let Some(method) = left.next() {
            asked.push(method);
            left.note(&result(method));
        }
        asked
    }

    #[test]
    fn a_check_asks_by_port_only_where_every_passive_method_is_refused_for_good() {
        use PortMethod::{Active, Epsv, Pasv};
        let refused = |_| Err(rejected(b"500 what?"));
        assert_eq!(asked(PORTS, refused), [Epsv, Pasv, Active]);
        let busy = |_| Err(rejected(b"425 not now"));
        assert_eq!(asked(PORTS, busy), [Epsv, Pasv]);
        let unreached = |method| match method {
            Epsv => Err(rejected(b"500 what?")),
            _ => Ok(()),
        };
        assert_eq!(asked(PORTS, unreached), [Epsv, Pasv]);
    }

    #[test]
    fn a_check_asks_by_the_methods_of_sessions() {
        use PortMethod::{Active, Epsv};
        let refused = |_| Err(rejected(b"500 what?"));
        let ipv6 = BackendPorts {
            ipv6: true,
            ..PORTS
        };
        assert_eq!(asked(ipv6, refused), [Epsv, Active]);
        let avoid = PortMethods::NONE.and(Epsv);
        let learned = BackendPorts { avoid, ..ipv6 };
        assert_eq!(asked(learned, refused), [Active, Epsv]);
        let active = BackendPorts {
            mode: PassiveMode::Active,
            ..PORTS
        };
        assert_eq!(asked(active, |_| Ok(())), [Active]);
    }
}
