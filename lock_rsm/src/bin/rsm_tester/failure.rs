//! Why a test failed.

/// One line for the person who ran it.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub fn new(line: impl Into<String>) -> Failure {
        Failure(line.into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
