//! A PKCS#12 file (PFX) as a pair of PEM files: of what the file holds, what can be served, put where it is watched.
//!
//! Nothing is written before the pair has passed the checks of one that is served. Then both files are on the disk beside their
//! places, and are renamed, the key first: a watch that takes a state which it has seen twice never takes the two halves of
//! different pairs for one. Another import into the folder waits until both are in their places.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::base::replace::{Folder, Replacement};
use crate::base::text::escape_path;
use crate::tls::{Assembled, CertificateError, CertificatePair};

#[cfg(feature = "pfx")]
mod file;
#[cfg(not(feature = "pfx"))]
#[path = "without.rs"]
mod file;

/// How long the decryption may take (a hundred thousand iterations, ten times what is usual, take a tenth of a second), and then
/// the wait for another import.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The file to import, with the options.
#[derive(Debug)]
pub struct Request<'a> {
    /// The PKCS#12 file.
    pub file: &'a Path,
    /// The file with its password; none for one that has none.
    pub password_file: Option<&'a Path>,
    /// The folder of the pair.
    pub out: &'a Path,
    /// The name of the new files, but for `.crt` and `.key`; `None` for that of the PKCS#12 file.
    pub name: Option<&'a str>,
}

/// A pair that is in its place.
#[derive(Debug)]
pub struct Imported {
    certificate: PathBuf,
    private_key: PathBuf,
    pair: CertificatePair,
    days_left: u64,
    /// Whether the pair was there already, byte for byte.
    unchanged: bool,
}

/// The reason why there is no new pair.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each variant is
pub enum PfxError {
    #[error("{}: {what}", escape_path(file))]
    File { file: PathBuf, what: String },
    #[error("{}: {what}", escape_path(file))]
    Password { file: PathBuf, what: String },
    #[error("{0:?} can't be what files are called: write --name NAME, which may have no slash")]
    Name(String),
    #[error("{}: {source}", escape_path(file))]
    Write {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{}: another import writes into this folder, and has not ended after {} s",
        escape_path(folder), waited.as_secs()
    )]
    Busy { folder: PathBuf, waited: Duration },
    /// The file can be read, and its pair can't be served.
    #[error("nothing was written, since this pair could not be served: {0}")]
    Pair(#[from] CertificateError),
}

/// Imports the PKCS#12 file.
///
/// # Errors
/// See [`PfxError`]; what was there stays as it was.
pub fn import(request: &Request<'_>) -> Result<Imported, PfxError> {
    let name = name(request)?;
    let now = SystemTime::now();
    let assembled = file::read(request, now)?;
    let pair = Pair::check(assembled, request.out, &name, now)?;
    pair.put(TIME_LIMIT)
}

fn name(request: &Request<'_>) -> Result<String, PfxError> {
    let name = match request.name {
        Some(name) => name.to_owned(),
        None => {
            let stem = request.file.file_stem().unwrap_or_default();
            stem.to_string_lossy().into_owned()
        }
    };
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0', '\u{fffd}']) {
        return Err(PfxError::Name(name));
    }
    Ok(name)
}

/// A pair that can be served, and where it is to be.
struct Pair<'a> {
    folder: &'a Path,
    /// The names of its files.
    names: [String; 2],
    assembled: Assembled,
    checked: CertificatePair,
    days_left: u64,
}

impl<'a> Pair<'a> {
    fn check(
        assembled: Assembled,
        folder: &'a Path,
        name: &str,
        now: SystemTime,
    ) -> Result<Self, PfxError> {
        let names = [format!("{name}.crt"), format!("{name}.key")];
        let [certificate, private_key] = names.each_ref().map(|name| folder.join(name));
        let checked = CertificatePair::check(
            (&certificate, &assembled.certificate),
            (&private_key, &assembled.private_key),
            now,
        )?;
        let left = checked.not_after.duration_since(now).unwrap_or_default();
        Ok(Self {
            folder,
            names,
            assembled,
            checked,
            days_left: left.as_secs() / 86_400,
        })
    }

    /// Puts the pair in its place, once no other process writes there.
    fn put(self, patience: Duration) -> Result<Imported, PfxError> {
        let at = |file: &Path| {
            let file = file.to_owned();
            |source| PfxError::Write { file, source }
        };
        let folder = Folder::lock(self.folder, patience).map_err(at(self.folder))?;
        let folder = folder.ok_or_else(|| PfxError::Busy {
            folder: self.folder.to_owned(),
            waited: patience,
        })?;
        let [certificate, private_key] = self.names.each_ref().map(|name| self.folder.join(name));
        let [crt_name, key_name] = &self.names;
        let (crt, key) = (&self.assembled.certificate, &self.assembled.private_key);
        let is_there =
            |file: &Path, text: &str| fs::read(file).is_ok_and(|former| former == text.as_bytes());
        let unchanged = is_there(&certificate, crt) && is_there(&private_key, key);
        if !unchanged {
            let prepare = |name: &str, content: &[u8], permissions| {
                Replacement::prepare(&folder, name, content, permissions)
            };
            let new_key = prepare(key_name, key.as_bytes(), 0o600).map_err(at(&private_key))?;
            let new_certificate = prepare(crt_name, crt.as_bytes(), 0o644);
            let new_certificate = new_certificate.map_err(at(&certificate))?;
            let former_key = fs::read(&private_key).ok();
            new_key.commit().map_err(at(&private_key))?;
            if let Err(error) = new_certificate.commit() {
                // A new key beside the former certificate is no pair.
                match former_key {
                    Some(key) => prepare(key_name, &key, 0o600)
                        .and_then(Replacement::commit)
                        .map_err(at(&private_key))?,
                    None => fs::remove_file(&private_key).map_err(at(&private_key))?,
                }
                return Err(at(&certificate)(error));
            }
        }
        Ok(Imported {
            certificate,
            private_key,
            pair: self.checked,
            days_left: self.days_left,
            unchanged,
        })
    }
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.unchanged {
            "unchanged"
        } else {
            "written"
        };
        write!(
            f,
            "{what}: {} and {}: {}, names {}, {} days left",
            escape_path(&self.certificate),
            escape_path(&self.private_key),
            self.pair.subject,
            self.pair.names_and_addresses(),
            self.days_left
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked<'a>(folder: &'a Path, of: &str) -> Pair<'a> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([of.to_owned()]).unwrap();
        let assembled = Assembled {
            certificate: params.self_signed(&key).unwrap().pem(),
            private_key: key.serialize_pem(),
        };
        Pair::check(assembled, folder, "tls", SystemTime::now()).unwrap()
    }

    #[test]
    fn nothing_is_written_where_another_import_writes_and_what_it_has_prepared_stays() {
        let folder = tempfile::tempdir().unwrap();
        let other = Folder::lock(folder.path(), Duration::ZERO)
            .unwrap()
            .unwrap();
        let its_key = Replacement::prepare(&other, "tls.key", b"its key", 0o600).unwrap();
        let error = checked(folder.path(), "ftp.test")
            .put(Duration::ZERO)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("another import writes into this folder"),
            "{error}"
        );
        its_key.commit().unwrap();
        let entries = fs::read_dir(folder.path()).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["tls.key"]);
        drop(other);
        let put = checked(folder.path(), "ftp.test").put(Duration::ZERO);
        assert!(put.unwrap().to_string().starts_with("written: "));
    }
}
