//! What a scripted backend does where the script says nothing: what a well-behaved server does.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use super::Received;
use super::seen::lock;
use super::session::Session;
use crate::script::{ScriptTls, Step, reply};
use crate::wire::End;

impl Session<'_> {
    /// The steps for a command.
    pub fn usual(&mut self, verb: &str, argument: &str) -> io::Result<Vec<Step>> {
        let orderly = if self.protected {
            End::CloseNotify
        } else {
            End::Fin
        };
        let one = |text: &str| Ok(vec![reply(text)]);
        match verb {
            "AUTH" => match self.shared.script.tls {
                ScriptTls::Explicit(_) => Ok(vec![reply("234 start TLS"), Step::StartTls]),
                _ => one("502 no TLS here"),
            },
            "USER" => one("331 password please"),
            "PASS" => match &self.shared.script.password {
                Some(right) if right != argument => one("530 not logged in"),
                _ => one("230 logged in"),
            },
            "PBSZ" => one("200 PBSZ=0"),
            "PROT" => {
                self.protected = argument == "P";
                one("200 protection set")
            }
            "FEAT" => one("211-Features:\r\n EPSV\r\n PASV\r\n REST STREAM\r\n SIZE\r\n211 End"),
            "SYST" => one("215 UNIX Type: L8"),
            "PWD" => one("257 \"/\" is the directory"),
            "CWD" => one("250 changed"),
            "TYPE" | "OPTS" | "NOOP" | "CLNT" | "MODE" | "STRU" => one("200 fine"),
            "STAT" => one("211 all is well"),
            "ABOR" => {
                (self.data, self.passive) = (None, None);
                one("226 nothing to abort")
            }
            "QUIT" => Ok(vec![
                reply("221 goodbye"),
                Step::End(self.orderly_control()),
            ]),
            "EPSV" => Ok(vec![Step::Announce(
                "229 entering passive mode (|||{port}|)",
            )]),
            "PASV" => Ok(vec![Step::Announce("227 entering passive mode ({six})")]),
            "PORT" => self.connect_to(read_port(argument)),
            "EPRT" => self.connect_to(read_eprt(argument)),
            "REST" => match argument.parse() {
                Ok(offset) => {
                    self.offset = offset;
                    one("350 go on")
                }
                Err(_) => one("501 not a number"),
            },
            "SIZE" => match lock(&self.shared.files).get(argument) {
                Some(content) => one(&format!("213 {}", content.len())),
                None => one("550 no such file"),
            },
            "RETR" => match lock(&self.shared.files).get(argument) {
                Some(content) => {
                    let offset = std::mem::take(&mut self.offset);
                    Ok(download(content.get(offset..).unwrap_or_default(), orderly))
                }
                None => one("550 no such file"),
            },
            "LIST" | "NLST" => {
                let names: Vec<String> = lock(&self.shared.files)
                    .keys()
                    .map(|name| format!("{name}\r\n"))
                    .collect();
                Ok(download(names.concat().as_bytes(), orderly))
            }
            "STOR" => {
                let offset = std::mem::take(&mut self.offset);
                self.store(argument, offset)
            }
            "APPE" => self.store(argument, usize::MAX),
            _ => one("502 unknown command"),
        }
    }

    /// The next data connection goes there.
    fn connect_to(&mut self, target: Option<SocketAddr>) -> io::Result<Vec<Step>> {
        (self.passive, self.active) = (None, target);
        Ok(vec![reply(match target {
            Some(_) => "200 at your service",
            None => "501 not an address",
        })])
    }

    /// Receives a file; what comes replaces the file's content from `offset` on.
    fn store(&mut self, name: &str, offset: usize) -> io::Result<Vec<Step>> {
        self.control()?.write_all(b"150 send it\r\n")?;
        if self.open_data(self.protected).is_err() {
            return Ok(vec![reply("425 no data connection")]);
        }
        let tls = self.protected;
        let Received { content, end, .. } = self.receive()?;
        {
            let mut files = lock(&self.shared.files);
            let file = files.entry(name.to_owned()).or_default();
            file.truncate(offset);
            file.extend_from_slice(&content);
        }
        let complete = end == if tls { End::CloseNotify } else { End::Fin };
        Ok(vec![
            Step::EndData(end),
            reply(if complete {
                "226 stored"
            } else {
                "426 the data connection broke"
            }),
        ])
    }
}

/// The address in the argument of PORT: `h1,h2,h3,h4,p1,p2`.
fn read_port(argument: &str) -> Option<SocketAddr> {
    let numbers: Vec<u8> = argument
        .split(',')
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()?;
    let [a, b, c, d, high, low] = numbers[..] else {
        return None;
    };
    Some(([a, b, c, d], u16::from_be_bytes([high, low])).into())
}

/// The address in the argument of EPRT: `|family|address|port|`.
fn read_eprt(argument: &str) -> Option<SocketAddr> {
    let fields: Vec<&str> = argument.split('|').collect();
    let ["", family, address, port, ""] = fields[..] else {
        return None;
    };
    let address: IpAddr = address.parse().ok()?;
    let named = if address.is_ipv4() { "1" } else { "2" };
    (family == named).then_some(SocketAddr::new(address, port.parse().ok()?))
}

fn download(content: &[u8], end: End) -> Vec<Step> {
    vec![
        reply("150 here it comes"),
        Step::OpenData,
        Step::Send(content.to_vec()),
        Step::EndData(end),
        reply("226 done"),
    ]
}
