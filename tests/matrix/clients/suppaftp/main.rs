//! Drives suppaftp, in its blocking form and with rustls: one session, the jobs that standard input lists.

use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use suppaftp::types::FileType;
use suppaftp::{Encoding, Mode, RustlsConnector, RustlsFtpStream, TlsStream, TransferStream};

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    // It says every line of the dialogue.
    log::set_logger(&Printer).map_err(|error| error.to_string())?;
    log::set_max_level(log::LevelFilter::Trace);
    let job: HashMap<String, String> = std::env::args()
        .skip(1)
        .filter_map(|word| {
            word.split_once('=')
                .map(|(key, value)| (key.into(), value.into()))
        })
        .collect();
    let latin_1 = job["encoding"] == "latin1";
    let mut ftp = connect(&job)?;
    if latin_1 {
        ftp.set_encoding(Latin1);
    }
    ftp.login(&job["user"], &job["password"])?;
    if job["tls"] == "implicit" {
        ftp.custom_command("PBSZ 0", &[suppaftp::Status::CommandOk])?;
        ftp.custom_command("PROT P", &[suppaftp::Status::CommandOk])?;
    }
    ftp.set_mode(match &*job["data"] {
        "pasv" => Mode::Passive,
        "epsv" => Mode::ExtendedPassive,
        _ => Mode::Active,
    });
    ftp.transfer_type(FileType::Binary)?;
    ftp.cwd(&job["directory"])?;
    for line in io::stdin().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let verb = words.next().unwrap_or_default();
        let words = words.map(bytes).collect::<Result<Vec<_>, _>>()?;
        let name = |index: usize| match latin_1 {
            true => Latin1.decode(&words[index]),
            false => String::from_utf8_lossy(&words[index]).into_owned(),
        };
        let path = || Path::new(OsStr::from_bytes(&words[1]));
        match verb {
            "list" => {
                for entry in ftp.list(None)? {
                    println!("{entry}");
                }
            }
            "upload" => upload(File::open(path())?, ftp.put_with_stream(name(0))?)?,
            "append" => upload(File::open(path())?, ftp.append_with_stream(name(0))?)?,
            "resume-upload" => {
                let there = ftp.size(name(0))?;
                let mut file = File::open(path())?;
                file.seek(SeekFrom::Start(there as u64))?;
                ftp.resume_transfer(there)?;
                upload(file, ftp.put_with_stream(name(0))?)?;
            }
            "download" => download(ftp.retr_as_stream(name(0))?, File::create(path())?)?,
            "resume-download" => {
                let file = OpenOptions::new().append(true).open(path())?;
                ftp.resume_transfer(file.metadata()?.len() as usize)?;
                download(ftp.retr_as_stream(name(0))?, file)?;
            }
            "rename" => ftp.rename(name(0), name(1))?,
            "delete" => ftp.rm(name(0))?,
            "mkdir" => ftp.mkdir(name(0))?,
            "rmdir" => ftp.rmdir(name(0))?,
            _ => return Err(format!("unknown job {line}").into()),
        }
    }
    ftp.quit()?;
    Ok(())
}

fn connect(job: &HashMap<String, String>) -> Result<RustlsFtpStream, Failure> {
    let host = &job["host"];
    let address = match host.contains(':') {
        true => format!("[{host}]:{}", job["port"]),
        false => format!("{host}:{}", job["port"]),
    };
    if job["tls"] == "clear" {
        return Ok(RustlsFtpStream::connect(address)?);
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&job["ca"])? {
        roots.add(certificate?)?;
    }
    let version = match &*job["max_tls"] {
        "1.2" => &TLS12,
        _ => &TLS13,
    };
    let config = ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = RustlsConnector::from(Arc::new(config));
    Ok(match &*job["tls"] {
        "implicit" => RustlsFtpStream::connect_secure_implicit(address, connector, host)?,
        _ => RustlsFtpStream::connect(address)?.into_secure(connector, host)?,
    })
}

fn upload(mut file: File, mut stream: TransferStream<impl TlsStream>) -> Result<(), Failure> {
    io::copy(&mut file, &mut stream)?;
    Ok(stream.finish()?)
}

fn download(mut stream: TransferStream<impl TlsStream>, mut file: File) -> Result<(), Failure> {
    let mut block = vec![0; 65536];
    loop {
        match stream.read(&mut block)? {
            0 => return Ok(stream.finish()?),
            length => file.write_all(&block[..length])?,
        }
    }
}

fn bytes(word: &str) -> Result<Vec<u8>, Failure> {
    (0..word.len() / 2)
        .map(|index| Ok(u8::from_str_radix(&word[2 * index..2 * index + 2], 16)?))
        .collect()
}

#[derive(Debug)]
struct Latin1;

impl Encoding for Latin1 {
    fn decode(&self, bytes: &[u8]) -> String {
        bytes.iter().copied().map(char::from).collect()
    }

    fn encode(&self, text: &str) -> io::Result<Vec<u8>> {
        text.chars()
            .map(|letter| u8::try_from(letter).map_err(io::Error::other))
            .collect()
    }
}

struct Printer;

impl log::Log for Printer {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("suppaftp")
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // It says replies byte by byte, in numbers.
        let said = record.args().to_string();
        let reply = said
            .strip_prefix("CC IN: [")
            .and_then(|rest| rest.strip_suffix(']'))
            .and_then(|numbers| {
                let bytes = numbers.split(", ").map(|byte| byte.parse().ok());
                bytes.collect::<Option<Vec<u8>>>()
            });
        match reply {
            Some(bytes) => print!("{}", Latin1.decode(&bytes)),
            None => println!("{said}"),
        }
    }

    fn flush(&self) {}
}
