//! An FTP server that has no disk: downloads are made up, uploads are thrown away, so that the proxy is what is measured.
//!
//! Two ports. The first speaks FTP, of which it knows what the load client and the proxies say. The second is for
//! relays that know no FTP: a connection begins with `GET n` or `PUT n`, and then n bytes go one way.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Serves until the process is killed; says on stdout on which two ports.
pub async fn serve() -> io::Result<()> {
    let control = listen()?;
    let raw = listen()?;
    println!(
        "{} {}",
        control.local_addr()?.port(),
        raw.local_addr()?.port()
    );
    tokio::try_join!(each(control, session), each(raw, one_request))?;
    Ok(())
}

/// With a backlog for many sessions that come at once.
fn listen() -> io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    // Pools have it at many addresses.
    socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
    socket.listen(1024)
}

async fn each<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // What goes wrong with one connection is seen by the load client at its other end.
        tokio::spawn(serve(stream));
    }
}

/// One FTP control connection.
async fn session(stream: TcpStream) -> io::Result<()> {
    let mut control = BufReader::with_capacity(256, stream);
    let mut data: Option<TcpListener> = None;
    let mut line = String::new();
    control.write_all(b"220 bench\r\n").await?;
    loop {
        line.clear();
        if control.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let command = line.trim_end();
        let (verb, argument) = command.split_once(' ').unwrap_or((command, ""));
        let reply: &[u8] = match verb {
            "USER" => b"331 password\r\n",
            "PASS" => b"230 in\r\n",
            "PWD" => b"257 \"/\"\r\n",
            "TYPE" | "NOOP" | "OPTS" | "CLNT" | "PBSZ" | "PROT" => b"200 ok\r\n",
            "SYST" => b"215 UNIX\r\n",
            "FEAT" => b"211-Features:\r\n EPSV\r\n211 End\r\n",
            "EPSV" | "PASV" => {
                // One listener serves a session's transfers in turn.
                if data.is_none() {
                    data = Some(listen()?);
                }
                let port = data.as_ref().map_or(Ok(0), port_of)?;
                let reply = if verb == "EPSV" {
                    format!("229 (|||{port}|)\r\n")
                } else {
                    format!("227 (127,0,0,1,{},{})\r\n", port >> 8, port & 255)
                };
                control.write_all(reply.as_bytes()).await?;
                continue;
            }
            "RETR" | "STOR" => {
                let Some(listener) = &data else {
                    control.write_all(b"425 no port\r\n").await?;
                    continue;
                };
                let (mut stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                control.write_all(b"150 go\r\n").await?;
                if verb == "RETR" {
                    generate(&mut stream, count(argument)?).await?;
                    stream.shutdown().await?;
                } else {
                    discard(&mut stream, u64::MAX).await?;
                }
                b"226 done\r\n"
            }
            "QUIT" => {
                control.write_all(b"221 bye\r\n").await?;
                return control.shutdown().await;
            }
            _ => b"502 no\r\n",
        };
        control.write_all(reply).await?;
    }
}

fn port_of(listener: &TcpListener) -> io::Result<u16> {
    listener
        .local_addr()
        .map(|address: SocketAddr| address.port())
}

/// One connection through a relay that knows no FTP.
async fn one_request(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(CHUNK, stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    match line.trim_end().split_once(' ') {
        Some(("GET", bytes)) => generate(stream.get_mut(), count(bytes)?).await?,
        Some(("PUT", bytes)) => {
            let early = stream.buffer().len() as u64;
            let left = count(bytes)?.saturating_sub(early);
            discard(stream.get_mut(), left).await?;
            stream.write_all(b"ok\n").await?;
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    stream.shutdown().await
}

fn count(digits: &str) -> io::Result<u64> {
    digits.parse().map_err(io::Error::other)
}

async fn generate(stream: &mut TcpStream, mut bytes: u64) -> io::Result<()> {
    static CONTENT: [u8; CHUNK] = [b'x'; CHUNK];
    while bytes > 0 {
        let next = bytes.min(CHUNK as u64);
        stream.write_all(&CONTENT[..next as usize]).await?;
        bytes -= next;
    }
    Ok(())
}

/// Reads so many bytes, or to the end.
async fn discard(stream: &mut TcpStream, mut bytes: u64) -> io::Result<()> {
    let mut waste = vec![0; CHUNK];
    while bytes > 0 {
        match stream.read(&mut waste).await? {
            0 => break,
            count => bytes = bytes.saturating_sub(count as u64),
        }
    }
    Ok(())
}

const CHUNK: usize = 256 * 1024;
