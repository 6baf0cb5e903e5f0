//! `portcullis import`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{OK, PROBLEM, UNUSABLE, fail, write_out};
use crate::import::{self, Outcome, Request, Source, pfx};

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis import iis applicationHost.config >portcullis.yaml
  portcullis import iis --backend 10.0.0.10 applicationHost.config >portcullis.yaml
  portcullis check --config portcullis.yaml";

/// Behind the help of `import pfx`.
const PFX_EXAMPLES: &str = "\
Examples:
  portcullis import pfx ftp.contoso.com.pfx --password-file pfx.pw --out /etc/portcullis/tls --name tls
  portcullis import pfx _.contoso.com.pfx --password-file pfx.pw --out /etc/portcullis/tls";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Convert the FTP sites of IIS to a configuration.
    ///
    /// The file is %windir%\System32\inetsrv\config\applicationHost.config. The configuration goes to stdout; stderr says which
    /// certificate IIS shows at each of its addresses and ports, and what needs attention, which stands in comments, too.
    ///
    /// Exits with 0 if everything is carried over, 1 if something needs attention, 2 if no configuration can be made.
    #[command(after_long_help = EXAMPLES)]
    Iis(IisArguments),
    /// Convert a PKCS#12 file (PFX), as win-acme and Windows write it, to a certificate and a key in PEM.
    ///
    /// NAME.crt (the certificate, and then its chain) and NAME.key are written into a folder, in one step each, where a running
    /// Portcullis takes them up. Nothing is written that it could not serve, or that is there already. New files are readable for
    /// their owner alone in the case of the key; those that are replaced keep owner, group and permissions.
    ///
    /// Exits with 0 if the pair is in its place, 1 if the one in the file can't be served, 2 if the file, the password or
    /// the folder can't be used.
    #[command(after_long_help = PFX_EXAMPLES)]
    Pfx(PfxArguments),
}

#[derive(Debug, Args)]
struct PfxArguments {
    /// The PKCS#12 file.
    file: PathBuf,
    /// The file with its password, in one line; leave it out for a file without one.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The folder for the two files.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The base name of the two files; default: that of the PKCS#12 file.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
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
    match &arguments.from {
        From::Iis(arguments) => run_iis(arguments),
        From::Pfx(arguments) => run_pfx(arguments),
    }
}

fn run_pfx(arguments: &PfxArguments) -> u8 {
    let request = pfx::Request {
        file: &arguments.file,
        password_file: arguments.password_file.as_deref(),
        out: &arguments.out,
        name: arguments.name.as_deref(),
    };
    match pfx::import(&request) {
        Ok(imported) => write_out(format!("{imported}\n").as_bytes()),
        Err(error @ pfx::PfxError::Pair(_)) => fail(PROBLEM, &error.to_string()),
        Err(error) => fail(UNUSABLE, &error.to_string()),
    }
}

fn run_iis(arguments: &IisArguments) -> u8 {
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
