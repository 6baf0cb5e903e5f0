//! `portcullis schema`.

use super::write_out;
use crate::config::SCHEMA;

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis schema > portcullis.schema.json
  # and as the first line of a configuration beside it, for editors:
  # yaml-language-server: $schema=portcullis.schema.json";

/// Runs it; returns the exit code.
pub(super) fn run() -> u8 {
    write_out(SCHEMA.as_bytes())
}
