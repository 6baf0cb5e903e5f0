//! What a client is asked to do in one session, and where it finds and leaves its files.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::leg::Leg;

/// One thing to do. Names are those of files in the remote directory; their local counterparts are
/// [`Workspace::up`] and [`Workspace::down`].
#[derive(Debug, Clone)]
pub enum Job {
    /// Lists the remote directory.
    List,
    /// Uploads files.
    Upload(Vec<Name>),
    /// Downloads files.
    Download(Vec<Name>),
    /// Appends to a file.
    Append(Name),
    /// Uploads what is missing of a file of which so many bytes are there.
    ResumeUpload(Name, u64),
    /// Downloads what is missing of a file of which the beginning is there.
    ResumeDownload(Name),
    /// Renames a file.
    Rename(Name, Name),
    /// Deletes a file.
    Delete(Name),
    /// Makes a directory.
    MakeDirectory(Name),
    /// Removes a directory.
    RemoveDirectory(Name),
    /// Uploads a tree, in as many sessions as the client likes.
    UploadTree(Tree),
    /// Downloads a tree, in as many sessions as the client likes.
    DownloadTree(Tree),
}

/// A file name: bytes, as FTP has them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(OsString);

impl Name {
    /// A name of these bytes.
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        Self(OsStr::from_bytes(bytes.as_ref()).to_owned())
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The bytes, for command lines.
    pub fn os(&self) -> &OsStr {
        &self.0
    }

    /// What a person reads: UTF-8 if that is what it is, else Latin-1.
    pub fn text(&self) -> String {
        match self.0.to_str() {
            Some(text) => text.to_owned(),
            None => self.bytes().iter().copied().map(char::from).collect(),
        }
    }

    /// Whether the bytes are no UTF-8.
    pub fn is_latin_1(&self) -> bool {
        self.0.to_str().is_none()
    }

    /// Whether the local file has the same name: not where that would depend on the local character set.
    pub fn is_local(&self) -> bool {
        !self.is_latin_1()
    }

    /// For URLs.
    pub fn percent_encoded(&self) -> String {
        percent_encoded(self.bytes())
    }
}

/// Bytes as a segment of a URL has them.
pub fn percent_encoded(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut encoded = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
    }
    encoded
}

/// Directories with files in them.
#[derive(Debug, Clone, Copy)]
pub struct Tree {
    /// How many directories.
    pub directories: usize,
    /// How many files in each.
    pub files: usize,
}

impl Tree {
    /// The names of the directories.
    pub fn directories(self) -> Vec<String> {
        (0..self.directories)
            .map(|number| format!("directory{number:02}"))
            .collect()
    }

    /// The names of the files in each directory.
    pub fn files(self) -> Vec<String> {
        (0..self.files)
            .map(|number| format!("file{number:02}"))
            .collect()
    }

    /// Every file's path below the tree's root.
    pub fn paths(self) -> Vec<String> {
        let in_directory = |directory: String| {
            self.files()
                .into_iter()
                .map(move |file| format!("{directory}/{file}"))
        };
        self.directories()
            .into_iter()
            .flat_map(in_directory)
            .collect()
    }
}

/// Who logs in, where and how.
#[derive(Debug, Clone)]
pub struct Login {
    /// Of the control connection.
    pub address: SocketAddr,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// The connections.
    pub leg: Leg,
    /// The only authority to be trusted; the certificate is for the address.
    pub ca: PathBuf,
}

impl Login {
    /// `ftp://address/` and the like; without user and password.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/", self.address)
    }
}

/// The files of one session.
#[derive(Debug)]
pub struct Workspace {
    /// The directory on the server, relative to the one after login: a plain word.
    pub remote: String,
    local: TempDir,
}

impl Workspace {
    /// With an empty local side.
    pub fn new(remote: String) -> Self {
        let local = tempfile::tempdir().expect("a temporary directory");
        for directory in ["up", "down", "home"] {
            std::fs::create_dir(local.path().join(directory)).expect("the directory is new");
        }
        Self { remote, local }
    }

    /// What the client works in.
    pub fn directory(&self) -> &Path {
        self.local.path()
    }

    /// Where files to upload are, by their remote names.
    pub fn up(&self) -> PathBuf {
        self.directory().join("up")
    }

    /// Where downloaded files go.
    pub fn down(&self) -> PathBuf {
        self.directory().join("down")
    }

    /// The client's home: nobody's .curlrc, .lftprc or .netrc has a say.
    pub fn home(&self) -> PathBuf {
        self.directory().join("home")
    }

    /// The file to upload under that name.
    pub fn source(&self, name: &Name) -> PathBuf {
        self.up().join(local_name(name))
    }

    /// The file to download that one to.
    pub fn sink(&self, name: &Name) -> PathBuf {
        self.down().join(local_name(name))
    }

    /// The path of a file on the server, relative to the directory after login.
    pub fn path(&self, name: &Name) -> OsString {
        let mut path = OsString::from(&self.remote);
        path.push("/");
        path.push(name.os());
        path
    }
}

/// Local names are ASCII or UTF-8, whatever the remote ones are: how a client finds a local file whose name isn't in the
/// local character set is no question of FTP.
fn local_name(name: &Name) -> OsString {
    if name.is_local() {
        name.os().to_owned()
    } else {
        "latin-1".into()
    }
}
