//! Listening on a Unix socket that the file system guards.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Owner and group may connect, and no other user.
const MODE: u32 = 0o660;

/// Why a socket can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path exists and is no socket.
    #[error("there is a file of that name which is no socket; remove it, or choose another name")]
    NotASocket,
    /// Another process listens there.
    #[error("another process listens there; stop it, or choose another name")]
    InUse,
    /// The operating system refuses.
    #[error("{0}; its directory has to exist, and Portcullis to be allowed to write to it")]
    Io(#[from] io::Error),
}

/// A Unix socket that is listened on. Its name is removed with this, if it is still this one's.
#[derive(Debug)]
pub struct SocketName {
    path: PathBuf,
    file: SocketFile,
}

#[derive(Debug)]
enum SocketFile {
    /// Made here, with this device and number.
    Own(u64, u64),
    /// Opened by another process, which removes it as well.
    OfAnother,
}

/// Listens at `path`, which only the owner and the group of the file may connect to. A socket that a former process has left
/// there is replaced.
///
/// # Errors
/// If something else is there, a process listens there, or the operating system refuses.
pub fn bind(path: &Path) -> Result<(UnixListener, SocketName), SocketError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket),
        // No process answers at one that was left behind.
        Ok(_) => match connect(path).map_err(|error| (error.kind(), error)) {
            // That of a process that doesn't accept any more may be full.
            Ok(()) | Err((io::ErrorKind::WouldBlock, _)) => return Err(SocketError::InUse),
            Err((io::ErrorKind::ConnectionRefused, _)) => {}
            Err((_, error)) => return Err(error.into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    // Under a name of its own until it has its permissions: before that, the umask decides on access.
    let beside = beside(path);
    let listener = UnixListener::bind(&beside)?;
    let named = fs::set_permissions(&beside, fs::Permissions::from_mode(MODE))
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| file_at(path));
    match named {
        Ok((device, number)) => {
            let (path, file) = (path.to_owned(), SocketFile::Own(device, number));
            Ok((listener, SocketName { path, file }))
        }
        Err(error) => {
            let _ = fs::remove_file(&beside);
            Err(error.into())
        }
    }
}

/// Connects to the socket, to find whether a process listens there, without waiting for it.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// A name beside `path` that no other process uses, and that no file has.
fn beside(path: &Path) -> PathBuf {
    let [suffix, ..] = RandomState::new().hash_one(()).to_be_bytes();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{suffix:02x}", std::process::id()));
    name.into()
}

fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl SocketName {
    /// The name of a socket that a service manager has opened.
    pub fn of_another(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: SocketFile::OfAnother,
        }
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the socket file still exists, and belongs to this process; one that another process looks after counts as
    /// existing.
    pub fn is_there(&self) -> bool {
        match self.file {
            SocketFile::Own(device, number) => {
                file_at(&self.path).is_ok_and(|file| file == (device, number))
            }
            SocketFile::OfAnother => true,
        }
    }
}

impl Drop for SocketName {
    fn drop(&mut self) {
        // Another process may have put its own there.
        if matches!(self.file, SocketFile::Own(..)) && self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    }

    #[tokio::test]
    async fn it_is_for_owner_and_group_and_is_gone_with_its_name() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("admin.sock");
        let (_listener, name) = bind(&path).expect("a socket");
        assert_eq!(mode(&path), MODE);
        assert!(connect(&path).is_ok());
        drop(name);
        let left = fs::read_dir(directory.path()).expect("a folder").count();
        assert_eq!(left, 0);
    }

    #[tokio::test]
    async fn one_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("admin.sock");
        let (listener, name) = bind(&path).expect("a socket");
        assert!(matches!(bind(&path), Err(SocketError::InUse)));
        drop(listener);
        let (_listener, _newer) = bind(&path).expect("no process listens there any more");
        // Only its own name is its to remove.
        drop(name);
        assert!(connect(&path).is_ok());
    }

    #[tokio::test]
    async fn one_of_a_process_that_accepts_nothing_any_more_is_in_use_and_not_waited_for() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("admin.sock");
        let hung = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        let address = SockAddr::unix(&path).expect("a short path");
        hung.bind(&address)
            .and_then(|()| hung.listen(0))
            .expect("it listens");
        let mut waiting = Vec::new();
        let full = loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None);
            let client = client.expect("a socket");
            match client.connect(&address) {
                Ok(()) => waiting.push(client),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(bind(&path), Err(SocketError::InUse)));
    }

    #[tokio::test]
    async fn a_file_of_another_kind_stays() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("admin.sock");
        fs::write(&path, "precious").expect("written");
        assert!(matches!(bind(&path), Err(SocketError::NotASocket)));
        assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
        let nowhere = directory.path().join("missing/admin.sock");
        assert!(matches!(bind(&nowhere), Err(SocketError::Io(_))));
    }
}
