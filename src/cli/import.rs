//! `portcullis import`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{OK, PROBLEM, UNUSABLE, fail};
use crate::import::{self, Outcome, Request, Source};

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis import iis applicationHost.config >portcullis.yaml
  portcullis import iis --backend 10.0.0.10 applicationHost.config >portcullis.yaml
  portcullis check --config portcullis.yaml";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Make a configuration of the FTP sites of IIS.
    ///
    /// The file is %windir%\System32\inetsrv\config\applicationHost.config. The configuration goes to stdout; stderr says which
    /// certificate IIS shows at each of its addresses and ports, and what needs attention, which stands in comments, too.
    ///
    /// Exits with 0 if everything is carried over, 1 if something needs attention, 2 if no configuration can be made.
    #[command(after_long_help = EXAMPLES)]
    Iis(IisArguments),
}

#[derive(Debug, Args)]
struct IisArguments {
    /// The name or IP address by which Portcullis reaches IIS; default: the address of each binding, if it has one.
    #[arg(long, value_name = "HOST")]
    backend: Option<String>,
    /// The certificate's file in the configuration.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/portcullis/tls/tls.crt"
    )]
    certificate: String,
    /// The key's file in the configuration.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/portcullis/tls/tls.key"
    )]
    private_key: String,
    /// The applicationHost.config; - for standard input.
    file: PathBuf,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let From::Iis(arguments) = &arguments.from;
    let request = Request {
        source: match arguments.file.as_path() {
            input if input == Path::new("-") => Source::Input,
            file => Source::File(file),
        },
        backend: arguments.backend.as_deref(),
        certificate: &arguments.certificate,
        private_key: &arguments.private_key,
    };
    match import::iis(&request, &mut std::io::stdout(), &mut std::io::stderr()) {
        Outcome::CarriedOver => OK,
        Outcome::NeedsAttention => PROBLEM,
        Outcome::Unusable(error) => fail(UNUSABLE, &error.to_string()),
    }
}
