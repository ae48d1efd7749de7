//! What a check found.

use std::fmt;

use super::finding::{Finding, Severity};

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Directories.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links, pipes, sockets, devices.
    pub others: u64,
    /// Directory entries.
    pub entries: u64,
    /// Blocks of bulk data.
    pub blocks: u64,
}

/// Everything that was found, and how much was looked at. Its text has a line for each finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were found.
    pub findings: Vec<Finding>,
    /// What the store holds.
    pub totals: Totals,
}

impl Report {
    /// Adds a finding.
    pub fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The findings that say that the store does not agree with itself.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.problem.severity() == Severity::Error)
    }

    /// Whether there is no error.
    pub fn is_clean(&self) -> bool {
        self.errors().next().is_none()
    }

    /// How much was looked at, and how much found, on one line.
    pub fn summary(&self) -> String {
        let t = &self.totals;
        let (errors, all) = (self.errors().count(), self.findings.len());
        format!(
            "{} directories, {} files, {} others, {} entries, {} blocks of bulk data: {errors} errors, {} notes",
            t.directories,
            t.files,
            t.others,
            t.entries,
            t.blocks,
            all - errors
        )
    }

    /// `Err` with a line for each error.
    ///
    /// # Errors
    /// When there is an error.
    pub fn into_result(self) -> Result<(), String> {
        let lines: Vec<String> = self.errors().map(Finding::to_string).collect();
        if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let word = match finding.problem.severity() {
                Severity::Error => "error",
                Severity::Information => "note",
            };
            writeln!(f, "{word}: {finding}")?;
        }
        f.write_str(&self.summary())
    }
}
