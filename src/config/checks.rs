//! The active checks of a site's backends: what `health` says, and the probe's password, which is in a file of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::error::{Fault, quoted};
use super::location::{Location, PathStep, steps};
use super::{Backend, SecretFile, Site, file};
use crate::base::text::{escape, escape_path};

/// The shortest time between two checks of a backend. More often tells nothing more, and fills the server's log.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// What a probe's secret is called.
const PASSWORD: &str = "password";
/// The longest name and the longest path, in bytes: a command line has to hold them.
const MAX_ARGUMENT: usize = 400;

/// How a site's backends are checked, without a client's login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// How far a check goes.
    pub level: CheckLevel,
    /// From one check of a backend to the next.
    pub interval: Duration,
    /// So many failed ones in a row, and the backend is down; at least 1.
    pub fall: u32,
    /// So many good ones in a row, and it is up again; at least 1.
    pub rise: u32,
}

/// How far a check goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckLevel {
    /// The TCP connection.
    Connect,
    /// The backend's greeting.
    Greeting,
    /// As far as a login needs it before USER: the TLS handshake where the backend has TLS, else the greeting.
    Ready,
    /// A login.
    Login(Probe),
    /// A login, and the listing of the probe's directory over a data connection.
    List(Probe),
}

/// The account that checks log in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What the backend gets as USER, as it is.
    pub user: String,
    /// The password; empty until [`load`](super::load) has read its file.
    pub password: SecretFile,
    /// The directory that is listed.
    pub path: String,
}

impl Probe {
    /// An account that the operator names on the command line, with its password, which is read from the file. Blocks on the
    /// file system.
    ///
    /// # Errors
    /// What is wrong with either of them.
    pub fn read(user: &str, password_file: &Path) -> Result<Self, String> {
        if !is_argument(user) {
            let user = escape(user.as_bytes());
            return Err(format!("`{user}` can't be sent as USER"));
        }
        let secret = SecretFile::read_password(password_file)
            .map_err(|wrong| format!("{}: {wrong}", escape_path(password_file)))?;
        Ok(Self {
            user: user.to_owned(),
            password: SecretFile {
                path: password_file.to_owned(),
                secret,
            },
            path: "/".to_owned(),
        })
    }
}

impl Checks {
    /// The account that they log in with, if they do.
    pub fn probe(&self) -> Option<&Probe> {
        match &self.level {
            CheckLevel::Login(probe) | CheckLevel::List(probe) => Some(probe),
            CheckLevel::Connect | CheckLevel::Greeting | CheckLevel::Ready => None,
        }
    }

    fn probe_mut(&mut self) -> Option<&mut Probe> {
        match &mut self.level {
            CheckLevel::Login(probe) | CheckLevel::List(probe) => Some(probe),
            CheckLevel::Connect | CheckLevel::Greeting | CheckLevel::Ready => None,
        }
    }
}

/// The word for a level in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LevelWord {
    Off,
    Connect,
    Greeting,
    Tls,
    Login,
    List,
}

impl LevelWord {
    fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Tls => "tls",
            Self::Login => "login",
            Self::List => "list",
        }
    }
}

/// What site number `site` says of checks; `None` if there are none. Relative file names count from `base`.
pub(super) fn resolve(
    written: Option<file::Health>,
    pools: &[&[Backend]],
    site: usize,
    base: &Path,
) -> Result<Option<Checks>, Fault> {
    let Some(written) = written else {
        return Ok(None);
    };
    let key = |key: &'static str| steps!["sites", site, "health", key];
    let interval = written
        .interval
        .map_or(Duration::from_secs(10), |span| span.0);
    if interval < MIN_INTERVAL {
        return Err(Fault::new(
            Location::Value(key("interval")),
            format!("checks every {interval:?} are more than a server should have"),
            "write at least 1s",
        ));
    }
    let probe = match written.login {
        None => None,
        Some(login) => Some(probe(login, key("login"), base)?),
    };
    let level = match (written.level, probe) {
        (Some(LevelWord::Off), _) => return Ok(None),
        (Some(LevelWord::Login), Some(probe)) => CheckLevel::Login(probe),
        (Some(LevelWord::List), Some(probe)) => CheckLevel::List(probe),
        (Some(word @ (LevelWord::Login | LevelWord::List)), None) => {
            return Err(Fault::new(
                Location::Value(key("level")),
                format!(
                    "`level: {}` without `login`: checks have no account to log in with",
                    word.as_str()
                ),
                "add `login: {user: NAME, password_file: FILE}`, or write `level: greeting`",
            ));
        }
        (_, Some(_)) => {
            return Err(Fault::new(
                Location::Key(key("login")),
                "`login` without `level: login` or `level: list`: no check would log in",
                "write `level: login` or `level: list`, or leave `login` out",
            ));
        }
        (Some(LevelWord::Connect), None) => CheckLevel::Connect,
        (Some(LevelWord::Greeting), None) => CheckLevel::Greeting,
        (Some(LevelWord::Tls), None) => {
            let mut backends = pools.iter().flat_map(|backends| *backends);
            if let Some(clear) = backends.find(|backend| backend.tls.is_none()) {
                return Err(Fault::new(
                    Location::Value(key("level")),
                    format!("`level: tls`, but backend {clear} is connected to in clear text"),
                    "leave `level` out: a backend with TLS is then checked to its handshake, any other to its greeting",
                ));
            }
            CheckLevel::Ready
        }
        (None, None) => CheckLevel::Ready,
    };
    Ok(Some(Checks {
        level,
        interval,
        fall: written.fall.map_or(3, |times| times.0),
        rise: written.rise.map_or(2, |times| times.0),
    }))
}

fn probe(written: file::Probe, at: Vec<PathStep>, base: &Path) -> Result<Probe, Fault> {
    let location = |key: &'static str| {
        let path = at.iter().copied().chain([PathStep::from(key)]);
        Location::Value(path.collect())
    };
    if !is_argument(&written.user) {
        return Err(Fault::new(
            location("user"),
            format!("{} can't be sent as USER", quoted(&written.user)),
            "write the name of the probe's account: 1 to 400 bytes without control characters",
        ));
    }
    let path = written.path.unwrap_or_else(|| "/".to_owned());
    if !is_argument(&path) {
        return Err(Fault::new(
            location("path"),
            format!("{} can't be sent as the argument of LIST", quoted(&path)),
            "write a small directory that the probe's account may list, such as /",
        ));
    }
    Ok(Probe {
        user: written.user,
        password: SecretFile::named(base.join(written.password_file.0)),
        path,
    })
}

/// A directory that the operator names on the command line, to be listed.
///
/// # Errors
/// If no server may be sent it.
pub fn list_argument(path: &str) -> Result<String, String> {
    match is_argument(path) {
        true => Ok(path.to_owned()),
        false => Err(format!(
            "{} can't be sent as the argument of LIST",
            quoted(path)
        )),
    }
}

/// Whether a server may be sent this as the argument of a command.
fn is_argument(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ARGUMENT && !text.contains(char::is_control)
}

/// Reads the passwords of the sites' probes. Blocks on the file system.
pub(super) fn read_passwords(sites: &mut [Arc<Site>]) -> Result<(), Fault> {
    for (index, site) in sites.iter_mut().enumerate() {
        if site.checks.as_ref().and_then(Checks::probe).is_none() {
            continue;
        }
        let checks = Arc::make_mut(site).checks.as_mut();
        if let Some(probe) = checks.and_then(Checks::probe_mut) {
            probe.password.read(PASSWORD).map_err(|wrong| {
                let path = steps!["sites", index, "health", "login", "password_file"];
                Fault::new(
                    Location::Value(path),
                    wrong,
                    "write the name of a file here, not its contents: one that holds the password of the probe's account in \
                     one line, and that Portcullis may read",
                )
            })?;
        }
    }
    Ok(())
}
