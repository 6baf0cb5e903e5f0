//! `portcullis explain`.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

use super::source::SourceArguments;
use super::{OK, PROBLEM, ResultFormat, UNUSABLE, fail};
use crate::explain;

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis explain --config portcullis.yaml 'ftpb.example.com|alice'
  portcullis explain --config portcullis.yaml --from 10.9.1.2 --sni ftpb.example.com alice
  portcullis explain --config portcullis.yaml --format json alice | jq .site.backends";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    /// The listener that the client connects to, as configured; default: the first one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listener: Option<SocketAddr>,
    /// The client's address; default: 127.0.0.1.
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// The server name of the client's TLS handshake.
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// The argument of the client's HOST.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = ResultFormat::Human)]
    format: ResultFormat,
    /// The argument of the client's USER.
    user: String,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    let source = arguments.source.into();
    let request = explain::Request {
        config: &source,
        user: &arguments.user,
        listener: arguments.listener,
        client: arguments.from,
        sni: arguments.sni.as_deref(),
        host: arguments.host.as_deref(),
        format: match arguments.format {
            ResultFormat::Human => explain::Format::Human,
            ResultFormat::Json => explain::Format::Json,
        },
    };
    match explain::run(&request, &mut std::io::stdout()) {
        explain::Outcome::Served => OK,
        explain::Outcome::Refused => PROBLEM,
        explain::Outcome::Unusable(why) => fail(UNUSABLE, &why),
    }
}
