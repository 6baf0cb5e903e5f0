//! What is done in a cell: each action is prepared, done by the client in one session of its own, and judged by what
//! the files on both sides are like afterwards. What the client says of it counts only against it.

use std::fmt;
use std::fs;

use testkit::content::{bytes, sha256};

use crate::client::Client;
use crate::job::{Job, Name, Tree, Workspace};
use crate::server::Running;

/// Something that users do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Lists a directory with a file, a directory and an empty file in it.
    List,
    /// Uploads files of every size in [`SIZES`], one after the other.
    Upload,
    /// Downloads files of every size in [`SIZES`], one after the other.
    Download,
    /// Uploads, renames, lists and downloads a file with spaces in its name.
    Spaces,
    /// The same with quotes in its name.
    Quotes,
    /// The same with a name in UTF-8.
    Utf8,
    /// The same with a name in Latin-1, which is no UTF-8.
    Latin1,
    /// Appends to a file.
    Append,
    /// Completes an upload of which the server has a part.
    ResumeUpload,
    /// Completes a download of which the client has a part.
    ResumeDownload,
    /// Renames a file.
    Rename,
    /// Deletes a file.
    Delete,
    /// Makes a directory and removes another.
    Directories,
    /// A file up, a listing, and that file down again, in one session: what a leg is judged by.
    RoundTrip,
    /// 50 MB up and down.
    Big,
    /// 40 small files in 4 directories up and down, four at a time.
    Several,
    /// 500 small files in 20 directories up and down, four at a time.
    Tree,
}

impl Action {
    /// What every pair of a client and a server is asked for.
    pub const EVERYWHERE: [Self; 15] = [
        Self::List,
        Self::Upload,
        Self::Download,
        Self::Spaces,
        Self::Quotes,
        Self::Utf8,
        Self::Latin1,
        Self::Append,
        Self::ResumeUpload,
        Self::ResumeDownload,
        Self::Rename,
        Self::Delete,
        Self::Directories,
        Self::Big,
        Self::Several,
    ];

    /// Whether it takes data connections, whatever the client.
    pub fn carries_data(self) -> bool {
        !matches!(self, Self::Rename | Self::Delete | Self::Directories)
    }

    /// Whether several transfers run at the same time.
    pub fn is_parallel(self) -> bool {
        matches!(self, Self::Several | Self::Tree)
    }

    /// Does it. `Err` says what went wrong, with what the client printed.
    pub fn perform(self, scene: &Scene<'_>) -> Result<String, String> {
        match self {
            Self::List => scene.list(),
            Self::Upload => scene.upload(&sizes()),
            Self::Download => scene.download(&sizes()),
            Self::Spaces => scene.name(&Name::new("two  words .txt")),
            Self::Quotes => scene.name(&Name::new("it's \"quoted\".txt")),
            Self::Utf8 => scene.name(&Name::new("Grüße 日本.txt")),
            Self::Latin1 => scene.name(&Name::new(b"na\xefve.txt")),
            Self::Append => scene.append(),
            Self::ResumeUpload => scene.resume_upload(),
            Self::ResumeDownload => scene.resume_download(),
            Self::Rename => scene.rename(),
            Self::Delete => scene.delete(),
            Self::Directories => scene.directories(),
            Self::RoundTrip => scene.round_trip(),
            Self::Big => {
                let big = [(Name::new("big"), 50_000_000)];
                if scene.client.cannot(Self::Upload).is_none() {
                    scene.upload(&big)?;
                }
                scene.download(&big)
            }
            Self::Several => scene.tree(SEVERAL),
            Self::Tree => scene.tree(TREE),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "list",
            Self::Upload => "upload",
            Self::Download => "download",
            Self::Spaces => "names with spaces",
            Self::Quotes => "names with quotes",
            Self::Utf8 => "names in UTF-8",
            Self::Latin1 => "names in Latin-1",
            Self::Append => "append",
            Self::ResumeUpload => "resume an upload",
            Self::ResumeDownload => "resume a download",
            Self::Rename => "rename",
            Self::Delete => "delete",
            Self::Directories => "make and remove directories",
            Self::RoundTrip => "a file up and down",
            Self::Big => "50 MB",
            Self::Several => "40 files in parallel",
            Self::Tree => "500 files in parallel",
        })
    }
}

/// Nothing, one byte, and one TLS record's worth of bytes with its neighbours.
pub const SIZES: [usize; 5] = [0, 1, 16_383, 16_384, 16_385];

/// 40 files.
const SEVERAL: Tree = Tree {
    directories: 4,
    files: 10,
};

/// 500 files.
const TREE: Tree = Tree {
    directories: 20,
    files: 25,
};

fn sizes() -> Vec<(Name, usize)> {
    SIZES
        .map(|size| (Name::new(format!("{size}.bin")), size))
        .into()
}

/// Where an action takes place.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Who acts.
    pub client: Client,
    /// The login.
    pub login: &'a crate::job::Login,
    /// Whose files are looked at.
    pub server: &'a Running,
    /// A word that is in no other scene of the same server.
    pub id: String,
}

impl Scene<'_> {
    fn list(&self) -> Result<String, String> {
        let place = self.place("");
        place.put("empty", b"");
        place.put("file.bin", b"content");
        self.server
            .make_directory(format!("{}/directory", place.workspace.remote));
        let said = place.run(&[Job::List])?;
        for name in ["empty", "file.bin", "directory"] {
            place.shows(&said, &Name::new(name))?;
        }
        Ok(said_text(&said))
    }

    fn upload(&self, files: &[(Name, usize)]) -> Result<String, String> {
        let place = self.place("-up");
        for (name, size) in files {
            place.write_source(name, &bytes(*size as u64, *size));
        }
        let names = files.iter().map(|(name, _)| name.clone()).collect();
        let said = place.run(&[Job::Upload(names)])?;
        for (name, size) in files {
            place.stored(&said, name, &bytes(*size as u64, *size))?;
        }
        Ok(said_text(&said))
    }

    fn download(&self, files: &[(Name, usize)]) -> Result<String, String> {
        let place = self.place("-down");
        for (name, size) in files {
            place.put(name, &bytes(*size as u64, *size));
        }
        let names = files.iter().map(|(name, _)| name.clone()).collect();
        let said = place.run(&[Job::Download(names)])?;
        for (name, size) in files {
            place.fetched(&said, name, &bytes(*size as u64, *size))?;
        }
        Ok(said_text(&said))
    }

    fn name(&self, name: &Name) -> Result<String, String> {
        let place = self.place("");
        let content = bytes(7, 1000);
        let mut moved = Name::new([b"moved ", name.bytes()].concat());
        // No command names this one: where it is printed, it was listed.
        let listed = Name::new([b"listed ", name.bytes()].concat());
        place.put(&listed, b"");
        let mut jobs = Vec::new();
        if self.client.cannot(Action::Upload).is_none() {
            place.write_source(name, &content);
            jobs.push(Job::Upload(vec![name.clone()]));
            jobs.push(Job::Rename(name.clone(), moved.clone()));
        } else {
            place.put(name, &content);
            moved = name.clone();
        }
        jobs.push(Job::List);
        jobs.push(Job::Download(vec![moved.clone()]));
        let said = place.run(&jobs)?;
        place.stored(&said, &moved, &content)?;
        if moved != *name {
            place.absent(&said, name)?;
        }
        place.shows(&said, &listed)?;
        place.fetched(&said, &moved, &content)?;
        Ok(said_text(&said))
    }

    fn append(&self) -> Result<String, String> {
        let place = self.place("");
        let name = Name::new("log.bin");
        let content = bytes(8, 30_000);
        place.put(&name, &content[..12_345]);
        place.write_source(&name, &content[12_345..]);
        let said = place.run(&[Job::Append(name.clone())])?;
        place.stored(&said, &name, &content)?;
        Ok(said_text(&said))
    }

    /// What is there already differs from the beginning of the whole file: it must neither be sent again nor touched.
    fn resume_upload(&self) -> Result<String, String> {
        let place = self.place("");
        let name = Name::new("part.bin");
        let (there, whole) = (bytes(9, 12_345), bytes(10, 30_000));
        place.put(&name, &there);
        place.write_source(&name, &whole);
        let said = place.run(&[Job::ResumeUpload(name.clone(), 12_345)])?;
        place.stored(&said, &name, &[&there, &whole[12_345..]].concat())?;
        Ok(said_text(&said))
    }

    /// See [`Self::resume_upload`].
    fn resume_download(&self) -> Result<String, String> {
        let place = self.place("");
        let name = Name::new("part.bin");
        let (there, whole) = (bytes(11, 12_345), bytes(12, 30_000));
        place.put(&name, &whole);
        place.write_sink(&name, &there);
        let said = place.run(&[Job::ResumeDownload(name.clone())])?;
        place.fetched(&said, &name, &[&there, &whole[12_345..]].concat())?;
        Ok(said_text(&said))
    }

    fn rename(&self) -> Result<String, String> {
        let place = self.place("");
        let (from, to) = (Name::new("from"), Name::new("to"));
        place.put(&from, b"content");
        let said = place.run(&[Job::Rename(from.clone(), to.clone())])?;
        place.stored(&said, &to, b"content")?;
        place.absent(&said, &from)?;
        Ok(said_text(&said))
    }

    fn delete(&self) -> Result<String, String> {
        let place = self.place("");
        let (gone, kept) = (Name::new("gone"), Name::new("kept"));
        place.put(&gone, b"content");
        place.put(&kept, b"content");
        let said = place.run(&[Job::Delete(gone.clone())])?;
        place.absent(&said, &gone)?;
        place.stored(&said, &kept, b"content")?;
        Ok(said_text(&said))
    }

    fn directories(&self) -> Result<String, String> {
        let place = self.place("");
        let (old, new) = (Name::new("old"), Name::new("new"));
        self.server
            .make_directory(format!("{}/old", place.workspace.remote));
        let said = place.run(&[
            Job::MakeDirectory(new.clone()),
            Job::RemoveDirectory(old.clone()),
        ])?;
        place.absent(&said, &old)?;
        if !place.remote(&new).is_dir() {
            return Err(place.wrong(&said, "the new directory isn't there"));
        }
        Ok(said_text(&said))
    }

    fn round_trip(&self) -> Result<String, String> {
        let place = self.place("");
        let name = Name::new("file.bin");
        let content = bytes(11, 16_385);
        let listed = Name::new("listed");
        place.put(&listed, b"");
        let mut jobs = vec![Job::List, Job::Download(vec![name.clone()])];
        if self.client.cannot(Action::Upload).is_none() {
            place.write_source(&name, &content);
            jobs.insert(0, Job::Upload(vec![name.clone()]));
        } else {
            place.put(&name, &content);
        }
        let said = place.run(&jobs)?;
        place.stored(&said, &name, &content)?;
        place.shows(&said, &listed)?;
        place.fetched(&said, &name, &content)?;
        Ok(said_text(&said))
    }

    fn tree(&self, tree: Tree) -> Result<String, String> {
        let mut said = Vec::new();
        let content = |path: &str| path.repeat(20).into_bytes();
        let place = self.place("-up");
        if self.client.cannot(Action::Upload).is_none() {
            for directory in tree.directories() {
                let directory = place.workspace.up().join(directory);
                fs::create_dir(directory).expect("the workspace is writable");
            }
            for path in tree.paths() {
                place.write_source(&Name::new(&path), &content(&path));
            }
            said = place.run(&[Job::UploadTree(tree)])?;
            for path in tree.paths() {
                place.stored(&said, &Name::new(&path), &content(&path))?;
            }
        }
        let place = self.place("-down");
        for directory in tree.directories() {
            self.server
                .make_directory(format!("{}/{directory}", place.workspace.remote));
        }
        for path in tree.paths() {
            place.put(&path, &content(&path));
        }
        said.extend(place.run(&[Job::DownloadTree(tree)])?);
        for path in tree.paths() {
            place.fetched(&said, &Name::new(&path), &content(&path))?;
        }
        Ok(said_text(&said))
    }

    fn place(&self, suffix: &str) -> Place<'_> {
        let remote = format!("{}{suffix}", self.id);
        self.server.make_directory(&remote);
        Place {
            scene: self,
            workspace: Workspace::new(remote),
        }
    }
}

/// A directory on each side.
struct Place<'a> {
    scene: &'a Scene<'a>,
    workspace: Workspace,
}

impl Place<'_> {
    fn run(&self, jobs: &[Job]) -> Result<Vec<u8>, String> {
        let scene = self.scene;
        let outcome = scene.client.run(scene.login, &self.workspace, jobs);
        if outcome.success {
            Ok(outcome.text)
        } else {
            Err(self.wrong(&outcome.text, "the client reports a failure"))
        }
    }

    fn put(&self, name: impl Into<Name>, content: &[u8]) {
        self.scene
            .server
            .put(self.workspace.path(&name.into()), content);
    }

    fn write_source(&self, name: &Name, content: &[u8]) {
        fs::write(self.workspace.source(name), content).expect("the workspace is writable");
    }

    fn write_sink(&self, name: &Name, content: &[u8]) {
        fs::write(self.workspace.sink(name), content).expect("the workspace is writable");
    }

    fn remote(&self, name: &Name) -> std::path::PathBuf {
        self.scene.server.root().join(self.workspace.path(name))
    }

    fn stored(&self, said: &[u8], name: &Name, content: &[u8]) -> Result<(), String> {
        let found = fs::read(self.remote(name));
        self.same(said, "on the server", name, found, content)
    }

    fn fetched(&self, said: &[u8], name: &Name, content: &[u8]) -> Result<(), String> {
        let found = fs::read(self.workspace.sink(name));
        self.same(said, "at the client", name, found, content)
    }

    fn same(
        &self,
        said: &[u8],
        place: &str,
        name: &Name,
        found: std::io::Result<Vec<u8>>,
        content: &[u8],
    ) -> Result<(), String> {
        match found {
            Ok(found) if sha256(&found) == sha256(content) => Ok(()),
            Ok(found) => Err(self.wrong(
                said,
                &format!(
                    "{place}, {:?} has {} bytes instead of {}, or others",
                    name.text(),
                    found.len(),
                    content.len()
                ),
            )),
            Err(error) => Err(self.wrong(said, &format!("{place}, {:?}: {error}", name.text()))),
        }
    }

    fn absent(&self, said: &[u8], name: &Name) -> Result<(), String> {
        if self.remote(name).exists() {
            return Err(self.wrong(said, &format!("{:?} is still there", name.text())));
        }
        Ok(())
    }

    /// The listing has the name: as it is, or in the local character set.
    fn shows(&self, said: &[u8], name: &Name) -> Result<(), String> {
        let contains = |wanted: &[u8]| said.windows(wanted.len()).any(|window| window == wanted);
        if contains(name.bytes()) || contains(name.text().as_bytes()) {
            return Ok(());
        }
        Err(self.wrong(said, &format!("{:?} isn't in the listing", name.text())))
    }

    fn wrong(&self, said: &[u8], what: &str) -> String {
        format!("{what}\n{}", said_text(said))
    }
}

fn said_text(said: &[u8]) -> String {
    String::from_utf8_lossy(said).into_owned()
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<&String> for Name {
    fn from(text: &String) -> Self {
        Self::new(text)
    }
}

impl From<&Name> for Name {
    fn from(name: &Name) -> Self {
        name.clone()
    }
}
