//! Two legacy FTP servers behind Portcullis on this machine, to try with curl: `make demo`.
//!
//! Everything lives in a temporary folder and listens on loopback only. Ctrl-C ends it and removes the folder.

use std::error::Error;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

mod certificates;
mod legacy;
mod ports;

/// How long Portcullis may take to accept clients, and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// The ports that Portcullis listens on.
struct Ports {
    explicit: u16,
    implicit: u16,
    data: u16,
    admin: u16,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(binary) = std::env::args_os().nth(1) else {
        eprintln!("usage: portcullis-demo PATH-OF-PORTCULLIS (`make demo` does it)");
        return ExitCode::from(2);
    };
    match demo(Path::new(&binary)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(binary: &Path) -> Result<(), Box<dyn Error>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let folder = tempfile::Builder::new()
        .prefix("portcullis-demo-")
        .tempdir()?;

    let (ca, central) = certificates::central(folder.path())?;
    let (backend, fingerprint) = certificates::self_signed(folder.path(), "ftpb")?;
    let ftpa = legacy::start(folder.path(), "ftpa-files", "Legacy FTP server A", None)?;
    let ftpb = legacy::start(
        folder.path(),
        "ftpb-files",
        "Legacy FTP server B",
        Some(&backend),
    )?;

    let ports = Ports {
        explicit: ports::free_or(2121)?,
        implicit: ports::free_or(2990)?,
        data: ports::free_or(30000)?,
        admin: ports::free_or(9190)?,
    };
    let config = folder.path().join("portcullis.yaml");
    fs::write(
        &config,
        configuration(&ports, &central, ftpa, ftpb, &fingerprint),
    )?;

    let mut portcullis = Command::new(binary)
        .args(["run", "--config"])
        .arg(&config)
        // Out of the terminal's reach: Ctrl-C comes to the demo, which then stops Portcullis in the proper way.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", binary.display()))?;

    tokio::select! {
        ready = wait_until_ready(ports.admin) => ready?,
        status = portcullis.wait() => return Err(format!("portcullis ended at once: {}", status?).into()),
        _ = interrupt.recv() => return stop(portcullis).await,
        _ = terminate.recv() => return stop(portcullis).await,
    }
    println!("{}", instructions(&ports, folder.path(), &ca));

    tokio::select! {
        status = portcullis.wait() => Err(format!("portcullis ended: {}", status?).into()),
        _ = interrupt.recv() => stop(portcullis).await,
        _ = terminate.recv() => stop(portcullis).await,
    }
}

fn configuration(
    ports: &Ports,
    central: &certificates::Pair,
    ftpa: SocketAddr,
    ftpb: SocketAddr,
    fingerprint: &str,
) -> String {
    let Ports {
        explicit,
        implicit,
        data,
        admin,
    } = ports;
    let certificate = central.certificate.display();
    let private_key = central.private_key.display();
    format!(
        r#"listeners:
  - address: 127.0.0.1:{explicit}
    tls: explicit
  - address: 127.0.0.1:{implicit}
    tls: implicit

tls:
  certificate: {certificate}
  private_key: {private_key}

passive:
  ports: {data}

sites:
  - name: ftpa
    default: true
    backends:
      - address: {ftpa}
  - name: ftpb
    hosts: [ftpb.albigi.lab]
    backends:
      - address: {ftpb}
        tls: explicit
        verify:
          fingerprint: "sha256:{fingerprint}"

limits:
  sessions: 100

timeouts:
  drain: 5s

admin:
  address: 127.0.0.1:{admin}
"#
    )
}

fn instructions(ports: &Ports, folder: &Path, ca: &Path) -> String {
    let Ports {
        explicit,
        implicit,
        admin,
        ..
    } = ports;
    let folder = folder.display();
    let curl = format!("curl --cacert {}", ca.display());
    let b = "'ftpb.albigi.lab|demo:demo'";
    format!(
        r#"
Portcullis is ready: two legacy servers, one certificate. Everything is in {folder}.

The default site, ftpa, whose server knows no TLS:
  {curl} --ssl-reqd -u demo:demo ftp://127.0.0.1:{explicit}/

The site ftpb, whose server has a self-signed certificate that no client sees:
  {curl} --ssl-reqd -u {b} ftp://127.0.0.1:{explicit}/
  {curl} --ssl-reqd -u {b} -T {folder}/portcullis.yaml ftp://127.0.0.1:{explicit}/
  {curl} --ssl-reqd -u {b} ftp://127.0.0.1:{explicit}/welcome.txt

Implicit TLS:
  {curl} -u {b} ftps://127.0.0.1:{implicit}/

In clear text, it is refused, and -v shows in which words:
  curl -v -u demo:demo ftp://127.0.0.1:{explicit}/

What the operator sees, the status page in a browser, and the metrics:
  http://127.0.0.1:{admin}/
  curl -s http://127.0.0.1:{admin}/metrics | grep ^portcullis | grep -v ' 0$'

Ctrl-C ends the demo.
"#
    )
}

async fn wait_until_ready(admin: u16) -> io::Result<()> {
    let poll = async {
        while !matches!(is_ready(admin).await, Ok(true)) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, poll)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "portcullis isn't ready"))
}

async fn is_ready(admin: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", admin)).await?;
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

/// Lets Portcullis end by itself, as an init system would.
async fn stop(mut portcullis: Child) -> Result<(), Box<dyn Error>> {
    println!("stopping");
    if let Some(id) = portcullis.id() {
        // The shell's own command: small machines lack the program.
        Command::new("sh")
            .args(["-c", r#"kill -s TERM "$1""#, "sh", &id.to_string()])
            .status()
            .await?;
    }
    let status = timeout(PATIENCE, portcullis.wait())
        .await
        .map_err(|_| "portcullis does not stop; it was killed")??;
    if status.success() {
        Ok(())
    } else {
        Err(format!("portcullis ended: {status}").into())
    }
}
