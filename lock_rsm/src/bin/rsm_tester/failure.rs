//! Why a test failed.

use std::path::Path;

/// One line for the person who ran it.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub fn new(line: impl Into<String>) -> Failure {
        Failure(line.into())
    }

    /// `what` cannot be done with the file at `path`.
    pub fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
        Failure(format!("cannot {what} {}: {error}", path.display()))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
