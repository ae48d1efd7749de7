//! What `yfs fsck` says in the end.

use std::fmt::Write as _;

use serde::Serialize;

use super::finding::{Finding, Problem, Severity};
use super::{Plan, Report, Totals};

/// Findings shown as text; JSON has all.
const SHOWN_MAX: usize = 1000;

/// Exit status, as of fsck(8).
pub mod status {
    /// No errors.
    pub const CLEAN: u8 = 0;
    /// Errors were found, and all of them repaired.
    pub const REPAIRED: u8 = 1;
    /// There are errors.
    pub const ERRORS: u8 = 4;
    /// It could not be done.
    pub const FAILED: u8 = 8;
}

/// What was found and done.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What was found.
    pub report: Report,
    /// What was changed.
    pub plan: Option<Plan>,
    /// What was found after that.
    pub after: Option<Report>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
    /// Why a repair that was asked for was not made.
    pub failure: Option<String>,
    pub(super) keys_lost: bool,
}

/// The JSON form, an interface for scripts: fields are added, never changed.
#[derive(Serialize)]
struct Json<'a> {
    clean: bool,
    status: u8,
    errors: usize,
    notes: usize,
    repaired: bool,
    totals: Totals,
    findings: Vec<JsonFinding>,
    left: Vec<JsonFinding>,
    lost_and_found: Vec<JsonFound<'a>>,
    unchecked: &'a [String],
    failure: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonFinding {
    problem: &'static str,
    severity: &'static str,
    inode: u64,
    path: Option<String>,
    text: String,
    remedy: &'static str,
}

#[derive(Serialize)]
struct JsonFound<'a> {
    inode: u64,
    name: &'a str,
}

impl Outcome {
    /// Whether there is something that a repair can put right, and enough is known to do so.
    pub(super) fn repairable(&self) -> bool {
        let unreadable = |finding: &&Finding| {
            matches!(finding.problem, Problem::Unreadable { .. } | Problem::NotAllocated { .. })
        };
        !self.keys_lost && self.report.errors().any(|finding| !unreadable(&finding))
    }

    pub(super) fn repaired(&mut self, plan: Plan) {
        self.plan = Some(plan);
    }

    /// Errors that are left.
    fn left(&self) -> Vec<&Finding> {
        let Some(after) = &self.after else { return self.report.errors().collect() };
        // Blocks are read once; no repair makes them readable.
        let data = |finding: &&Finding| matches!(finding.problem, Problem::Unreadable { .. });
        let read_again = |finding: &&Finding| !after.findings.contains(finding);
        after.errors().chain(self.report.errors().filter(data).filter(read_again)).collect()
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        if self.failure.is_some() {
            return status::FAILED;
        }
        match (self.left().is_empty(), &self.plan) {
            (true, None) => status::CLEAN,
            (true, Some(_)) => status::REPAIRED,
            (false, _) => status::ERRORS,
        }
    }

    /// For people: a line for each finding, for each repair, and the sum.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for finding in self.report.findings.iter().take(SHOWN_MAX) {
            let _ = writeln!(out, "{}: {finding}", word(finding)); // a string takes everything
        }
        if self.report.findings.len() > SHOWN_MAX {
            let _ = writeln!(out, "and {} more (--json has all)", self.report.findings.len() - SHOWN_MAX);
        }
        for what in &self.unchecked {
            let _ = writeln!(out, "not checked: {what}");
        }
        for (ino, name) in self.plan.iter().flat_map(|plan| &plan.found) {
            let _ = writeln!(out, "inode {ino} is now in lost+found as \"{name}\"");
        }
        let _ = writeln!(out, "{}", self.report.summary());
        if self.plan.is_some() {
            for finding in self.left() {
                let _ = writeln!(out, "left: {finding}");
            }
        }
        let verdict = match self.status() {
            status::CLEAN => "clean",
            status::REPAIRED => "repaired; all errors are gone",
            status::FAILED => "there are errors, and they were not repaired",
            _ if self.plan.is_some() => "repaired, but not all errors are gone",
            _ if self.keys_lost => "there are errors; no repair is possible while records cannot be read",
            _ if self.repairable() => "there are errors; --repair puts right what can be",
            _ => "there are errors that no repair puts right",
        };
        out + verdict
    }

    /// For scripts.
    pub fn json(&self) -> serde_json::Result<String> {
        let errors = self.report.errors().count();
        let found = self.plan.iter().flat_map(|plan| &plan.found);
        serde_json::to_string_pretty(&Json {
            clean: self.left().is_empty(),
            status: self.status(),
            errors,
            notes: self.report.findings.len() - errors,
            repaired: self.plan.is_some(),
            totals: self.report.totals,
            findings: self.report.findings.iter().map(json).collect(),
            left: self.left().into_iter().map(json).collect(),
            lost_and_found: found.map(|(inode, name)| JsonFound { inode: *inode, name }).collect(),
            unchecked: &self.unchecked,
            failure: self.failure.as_deref(),
        })
    }
}

fn word(finding: &Finding) -> &'static str {
    match finding.problem.severity() {
        Severity::Error => "error",
        Severity::Information => "note",
    }
}

fn json(finding: &Finding) -> JsonFinding {
    JsonFinding {
        problem: finding.problem.name(),
        severity: word(finding),
        inode: finding.ino,
        path: finding.path.clone(),
        text: finding.problem.to_string(),
        remedy: finding.problem.remedy(),
    }
}
