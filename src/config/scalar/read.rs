//! From the text of a value to what it means, or what is wrong with it.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{AdminAddress, ValueError};
use crate::base::text::decimal;
use crate::config::concealed::is_content;
use crate::config::error::quoted;
use crate::policy::commands::DenyError;
use crate::policy::rates::RateError;
use crate::policy::users::UserPattern;
use crate::policy::{DeniedCommand, Notice, Rate};

/// The longest duration: more is a typing error, and it is far below the overflow of a clock.
const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest greeting, in bytes: with its code it fits into what clients read at once (RFC 959 has lines of 512).
const MAX_GREETING: usize = 400;
/// The longest name of a file, without its directories: what Linux takes (`NAME_MAX`).
const MAX_FILE_NAME: usize = 255;
/// The highest weight: finer shares make no difference.
const MAX_WEIGHT: u32 = 1000;
/// The most checks in a row that anything may wait for.
const MAX_TIMES: u32 = 100;
/// The highest count: more sessions than ports, descriptors or memory allow.
const MAX_COUNT: usize = 10_000_000;

pub fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, ValueError> {
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, meaning)) => Ok(*meaning),
        None => {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            Err(ValueError::new(
                format!("{} isn't possible here", quoted(text)),
                format!("write {}", words.join(" or ")),
            ))
        }
    }
}

pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let wrong = |what| {
        ValueError::new(
            format!("{} {what}", quoted(text)),
            "write a whole number and a unit: 500ms, 10s, 5m or 1h",
        )
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "" => return Err(wrong("has no unit")),
        _ => return Err(wrong("isn't a duration")),
    };
    if number.is_empty() {
        return Err(wrong("isn't a duration"));
    }
    // Digits only, so what doesn't parse is too big.
    let milliseconds = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .unwrap_or(u64::MAX);
    match Duration::from_millis(milliseconds) {
        Duration::ZERO => Err(ValueError::new(
            "the duration is zero",
            "write how long to wait, at least 1ms",
        )),
        long if long > MAX_DURATION => Err(ValueError::new(
            format!("{} is longer than 30 days", quoted(text)),
            "write at most 720h",
        )),
        duration => Ok(duration),
    }
}

pub fn port_range(text: &str) -> Result<RangeInclusive<u16>, ValueError> {
    let port = |text: &str| {
        let trimmed = text.trim();
        decimal::<u16>(trimmed).ok_or_else(|| {
            ValueError::new(
                format!("{} isn't a port", quoted(trimmed)),
                "write one port such as 30000, or a range such as 30000-30063",
            )
        })
    };
    let Some((first, last)) = text.split_once('-') else {
        let only = port(text)?;
        return Ok(only..=only);
    };
    let (first, last) = (port(first)?, port(last)?);
    if first == 0 || last == 0 {
        return Err(ValueError::new(
            "a range can't contain port 0",
            "write ports from 1, best from 1024, to 65535",
        ));
    }
    if first > last {
        return Err(ValueError::new(
            format!("the range {first}-{last} ends before it begins"),
            format!("write {last}-{first}"),
        ));
    }
    Ok(first..=last)
}

pub fn count(text: &str) -> Result<usize, ValueError> {
    number(text, || {
        ValueError::new("zero would refuse every session", "write a number from 1")
    })
}

/// How many failed logins block a client.
pub fn failures(text: &str) -> Result<usize, ValueError> {
    number(text, || {
        ValueError::new(
            "zero would block each client before its first login",
            "write a number from 1, or `allow: [0.0.0.0/0, \"::/0\"]` to switch the guard off",
        )
    })
}

/// A number from 1, or what is wrong with zero.
fn number(text: &str, zero: impl FnOnce() -> ValueError) -> Result<usize, ValueError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<usize>() {
        Ok(0) => Err(zero()),
        Ok(count) if digits && count <= MAX_COUNT => Ok(count),
        _ if digits => Err(ValueError::new(
            format!("{} is too many", quoted(text)),
            "write at most 10000000",
        )),
        _ => Err(ValueError::new(
            format!("{} isn't a whole number", quoted(text)),
            "write a number from 1, such as 10000",
        )),
    }
}

/// The time that a login may wait, where none is meant by zero.
pub fn wait(text: &str) -> Result<Duration, ValueError> {
    match text {
        "0s" | "0ms" | "0m" | "0h" => Ok(Duration::ZERO),
        _ => duration(text),
    }
}

pub fn times(text: &str) -> Result<u32, ValueError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let times = text.parse().ok().filter(|_| digits);
    times
        .filter(|times| (1..=MAX_TIMES).contains(times))
        .ok_or_else(|| {
            ValueError::new(
                format!("{} isn't a number of checks in a row", quoted(text)),
                "write a whole number from 1 to 100",
            )
        })
}

pub fn weight(text: &str) -> Result<u32, ValueError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let weight = text.parse().ok().filter(|_| digits);
    weight
        .filter(|weight| *weight <= MAX_WEIGHT)
        .ok_or_else(|| {
            ValueError::new(
                format!("{} isn't a weight", quoted(text)),
                "write a whole number from 0 (takes no new sessions) to 1000; 100 is the default",
            )
        })
}

pub fn name_server(text: &str) -> Result<SocketAddr, ValueError> {
    let port = |ip| SocketAddr::new(ip, 53);
    let address = text.parse().or_else(|_| text.parse().map(port)).ok();
    address
        .filter(|address| address.port() != 0 && !address.ip().is_unspecified())
        .ok_or_else(|| {
            ValueError::new(
                format!("{} isn't the address of a name server", quoted(text)),
                "write its IP address, with a port if it isn't 53: 10.0.0.53, 127.0.0.1:8600, \"[fd00::53]:53\"",
            )
        })
}

pub fn listen_address(text: &str) -> Result<SocketAddr, ValueError> {
    let help = "write 0.0.0.0:21 for every IPv4 address, \"[::]:21\" for every IPv6 address (list both for both), or one address and its \
                port";
    let Ok(address) = text.parse::<SocketAddr>() else {
        return Err(ValueError::new(
            format!("{} isn't an IP address with a port", quoted(text)),
            help,
        ));
    };
    let ip = address.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    if ip.is_multicast() || broadcast {
        return Err(ValueError::new(
            format!("nothing can connect to {ip}: it is a multicast or broadcast address"),
            help,
        ));
    }
    Ok(address)
}

/// `off` for none.
pub fn admin_address(text: &str) -> Result<AdminAddress, ValueError> {
    match text {
        "off" => Ok(AdminAddress(None)),
        _ => listen_address(text)
            .map(|address| AdminAddress(Some(address)))
            .map_err(|error| ValueError {
                help: "write 127.0.0.1:9190 for this machine alone, another address and its port, or `off`"
                    .to_owned(),
                ..error
            }),
    }
}

/// A network whose address has bits beyond its prefix is an error: 10.1.2.3/8 would mean all of 10.0.0.0/8.
pub fn network(text: &str) -> Result<IpNet, ValueError> {
    let help = "write a network such as 10.0.0.0/8 or \"fd00::/8\", or one address";
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(network) = network else {
        return Err(ValueError::new(
            format!("{} isn't a network", quoted(text)),
            help,
        ));
    };
    if matches!(network.addr(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(ValueError::new(
            format!("{} is IPv4 in the form of IPv6", quoted(text)),
            "write the IPv4 network alone, such as 10.0.0.0/8",
        ));
    }
    if network.trunc() != network {
        return Err(ValueError::new(
            format!(
                "{} has bits beyond its /{}",
                quoted(text),
                network.prefix_len()
            ),
            format!(
                "write {} for the network, or {} for the address",
                network.trunc(),
                network.addr()
            ),
        ));
    }
    Ok(network)
}

pub fn file_name(text: &str) -> Result<PathBuf, ValueError> {
    if text.is_empty() || text.contains('\0') {
        return Err(ValueError::new(
            "an empty file name",
            "write the name of a file, such as /etc/portcullis/tls/tls.crt",
        ));
    }
    if is_content(text) || text.split('/').any(|part| part.len() > MAX_FILE_NAME) {
        return Err(ValueError::new(
            "the contents of a file, where its name belongs",
            "write the name of a file here, not its contents",
        ));
    }
    Ok(PathBuf::from(text))
}

pub fn greeting(text: &str) -> Result<String, ValueError> {
    let fault = if text.is_empty() {
        "an empty greeting"
    } else if text.contains(char::is_control) {
        "a greeting of more than one line, or with control characters"
    } else if text.len() > MAX_GREETING {
        "a greeting of more than 400 bytes"
    } else {
        return Ok(text.to_owned());
    };
    Err(ValueError::new(
        fault,
        "write one line, such as \"Authorised use only.\"",
    ))
}

pub fn notice(text: &str) -> Result<Notice, ValueError> {
    let words = ["true", "false", "yes", "no", "on", "off"];
    if words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        return Err(ValueError::new(
            format!("{} is no text for clients", quoted(text)),
            "write what they are told, such as \"Back on Monday.\", or leave the key out",
        ));
    }
    Notice::new(text).map_err(|error| {
        ValueError::new(
            error.to_string(),
            "write at most 50 lines of at most 500 bytes, such as \"Back on Monday.\"",
        )
    })
}

pub fn user_pattern(text: &str) -> Result<UserPattern, ValueError> {
    UserPattern::new(text).map_err(|error| {
        ValueError::new(
            format!("the user {} {error}", quoted(text)),
            "write a name, or the beginning of names with one `*` behind it, such as \"acme-*\"",
        )
    })
}

pub fn denied_command(text: &str) -> Result<DeniedCommand, ValueError> {
    DeniedCommand::new(text).map_err(|error| {
        let help = match error {
            DenyError::Needed => "leave it out",
            DenyError::NotACommand | DenyError::Argument => {
                "write a command such as DELE, or one of SITE such as \"SITE CHMOD\""
            }
        };
        ValueError::new(format!("{} {error}", quoted(text)), help)
    })
}

/// In bits a second, as networks are measured: `500M`.
pub fn rate(text: &str) -> Result<Rate, ValueError> {
    let help = "write how many bits a second, such as 500k, 50M or 1G, at least 64k";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let Some(unit) = Rate::unit(unit).filter(|_| !number.is_empty()) else {
        return Err(ValueError::new(
            format!("{} isn't a number of bits a second", quoted(text)),
            help,
        ));
    };
    // Digits only, so what doesn't parse is too big.
    let bits = number.parse::<u64>().ok();
    let bits = bits.and_then(|number| number.checked_mul(unit));
    Rate::new(bits.unwrap_or(u64::MAX)).map_err(|error| {
        let help = match (error, unit) {
            (RateError::TooLow, 1) => {
                "write the unit as well: 500k, 50M or 1G; the least is 64k".to_owned()
            }
            (RateError::TooLow, _) => help.to_owned(),
            (RateError::TooHigh, _) => "leave it out where nothing is to be limited".to_owned(),
        };
        ValueError::new(format!("{} {error}", quoted(text)), help)
    })
}

/// Colons between the bytes and upper case are as OpenSSL prints them.
pub fn fingerprint(text: &str) -> Result<[u8; 32], ValueError> {
    let help = "write \"sha256:\" and 64 hexadecimal digits; \
                `openssl x509 -in FILE -noout -fingerprint -sha256` prints them";
    let Some((algorithm, digits)) = text.split_once(':') else {
        return Err(ValueError::new("a fingerprint without its algorithm", help));
    };
    if !algorithm.eq_ignore_ascii_case("sha256") {
        return Err(ValueError::new(
            format!(
                "{} isn't a fingerprint algorithm known here",
                quoted(algorithm)
            ),
            help,
        ));
    }
    let mut bytes = [0; 32];
    let mut digits = digits.chars();
    for (index, byte) in bytes.iter_mut().enumerate() {
        if index > 0 && digits.as_str().starts_with(':') {
            digits.next();
        }
        let mut digit = || {
            digits
                .next()
                .and_then(|digit| digit.to_digit(16))
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(ValueError::new("this isn't a SHA-256 in hexadecimal", help));
        };
        *byte = high << 4 | low;
    }
    if !digits.as_str().is_empty() {
        return Err(ValueError::new("this is longer than a SHA-256", help));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok<T>(read: Result<T, ValueError>) -> Option<T> {
        read.ok()
    }

    #[test]
    fn durations_have_a_unit_and_an_end() {
        assert_eq!(ok(duration("500ms")), Some(Duration::from_millis(500)));
        assert_eq!(ok(duration("5m")), Some(Duration::from_secs(300)));
        assert_eq!(ok(duration("720h")), Some(MAX_DURATION));
        for bad in [
            "",
            "5",
            "s",
            "0s",
            "0ms",
            "1d",
            "1 s",
            "-1s",
            "+1s",
            "1.5s",
            "721h",
            "99999999999999999999s",
        ] {
            assert_eq!(ok(duration(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn rates_are_in_bits_a_second() {
        let written = |text| ok(rate(text)).map(|rate| rate.to_string());
        for (text, same) in [
            ("64k", "64k"),
            ("500M", "500M"),
            ("1000M", "1G"),
            ("1000G", "1000G"),
            ("50000000", "50M"),
        ] {
            assert_eq!(written(text).as_deref(), Some(same));
        }
        for bad in [
            "",
            "0",
            "500",
            "63k",
            "M",
            "50m",
            "50K",
            "50 M",
            "50MB",
            "50Mbit",
            "1.5G",
            "-1M",
            "+1M",
            "1001G",
            "99999999999999999999",
            "99999999999999999999G",
            "18446744073709551615G",
        ] {
            assert_eq!(written(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ports_are_one_or_a_range_in_order() {
        assert_eq!(ok(port_range("30000")), Some(30000..=30000));
        assert_eq!(ok(port_range("30000 - 30063")), Some(30000..=30063));
        assert_eq!(ok(port_range("0")), Some(0..=0));
        for bad in ["", "-", "1-", "65536", "2-1", "0-5", "+1", "1-2-3", "a"] {
            assert_eq!(ok(port_range(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn a_fingerprint_is_taken_as_openssl_prints_it() {
        let plain = format!("sha256:{}", "0aFf".repeat(16));
        let colons = format!("SHA256:{}0A:FF", "0A:FF:".repeat(15));
        assert_eq!(ok(fingerprint(&plain)), ok(fingerprint(&colons)));
        assert_eq!(
            ok(fingerprint(&plain)).map(|bytes| bytes[..2].to_vec()),
            Some(vec![0x0a, 0xff])
        );
        let short = &plain[..plain.len() - 2];
        for bad in [
            short,
            &format!("{plain}00"),
            &format!("{plain}:"),
            "sha1:00",
            "00",
            "sha256:",
            &plain.replace("aF", "\u{e4}"),
        ] {
            assert_eq!(ok(fingerprint(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn listeners_need_an_address_that_can_be_connected_to() {
        assert_eq!(
            ok(listen_address("[::1]:0")).map(|address| address.port()),
            Some(0)
        );
        for bad in [
            "21",
            ":21",
            "*:21",
            "localhost:21",
            "0.0.0.0",
            "::1:21",
            "224.0.0.1:21",
            "[ff02::1]:21",
        ] {
            assert_eq!(ok(listen_address(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn networks_are_written_exactly() {
        let written = |text| ok(network(text)).map(|network| network.to_string());
        assert_eq!(written("10.0.0.0/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(written("10.1.2.3").as_deref(), Some("10.1.2.3/32"));
        assert_eq!(written("fd00::/8").as_deref(), Some("fd00::/8"));
        assert_eq!(written("::/0").as_deref(), Some("::/0"));
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/255.0.0.0",
            "10.1.2.3/8",
            "fd00::1/64",
            "::ffff:10.0.0.0/104",
            "office",
        ] {
            assert_eq!(written(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn counts_begin_at_one() {
        assert_eq!(ok(count("10000")), Some(10000));
        for bad in [
            "",
            "0",
            "-1",
            "+1",
            "1_000",
            "1e3",
            "10000001",
            "99999999999999999999",
        ] {
            assert_eq!(ok(count(bad)), None, "{bad:?}");
        }
    }
}
