//! The static configuration of a replica group: the seed's `config` file, or a list on the command line.

use std::path::{Path, PathBuf};

/// Most members a group may have; a vote needs a majority of them, so more would only be slower.
pub const MEMBERS_MAX: usize = 15;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not an address.
    #[error("{place}: {reason}; write one HOST:PORT or port per line")]
    BadAddress {
        /// File and line, or the option.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The same address stands there twice.
    #[error("{place}: member {address} is listed twice; list every replica once")]
    Duplicate {
        /// File and line, or the option.
        place: String,
        /// The address.
        address: String,
    },
    /// The replica that should be the first master is no member.
    #[error("the master {address} is not among the members {members}; add it to {place}")]
    NotAMember {
        /// Its address.
        address: String,
        /// The members read.
        members: String,
        /// Where they came from.
        place: String,
    },
    /// No member at all.
    #[error("{place} names no members; write one HOST:PORT or port per line")]
    Empty {
        /// The file or option.
        place: String,
    },
    /// More members than make sense.
    #[error("{place} names {count} members; at most {MEMBERS_MAX} are supported")]
    TooMany {
        /// The file or option.
        place: String,
        /// How many.
        count: usize,
    },
}

/// Where the list of members comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembersFrom {
    /// A list given on the command line.
    List(Vec<String>),
    /// A file named on the command line; it must exist.
    File(PathBuf),
    /// The file `config` of the current directory when there is one, else just MASTER: the replica that is it founds a group
    /// of one, and others join that.
    Default,
}

/// The normalised addresses of a group: (master, me, members).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The first master.
    pub master: String,
    /// This replica.
    pub me: String,
    /// The founders, in the order given. A replica that is not among them joins their group.
    pub members: Vec<String>,
}

impl Group {
    /// Reads the configuration for the replica `me` of a group first led by `master`.
    pub fn read(master: &str, me: &str, from: &MembersFrom) -> Result<Group, ConfigError> {
        let master = address(master, "MASTER")?;
        let me = address(me, "ME")?;
        let (members, place) = match from {
            MembersFrom::List(list) => (parse_list(list)?, "--members".to_owned()),
            MembersFrom::File(path) => (parse_file(path)?, path.display().to_string()),
            MembersFrom::Default if Path::new("config").exists() => {
                (parse_file(Path::new("config"))?, "config".to_owned())
            }
            MembersFrom::Default => (vec![master.clone()], "the command line".to_owned()),
        };
        let group = Group { master, me, members };
        group.check(&place)?;
        Ok(group)
    }

    fn check(&self, place: &str) -> Result<(), ConfigError> {
        if self.members.len() > MEMBERS_MAX {
            return Err(ConfigError::TooMany { place: place.to_owned(), count: self.members.len() });
        }
        // Whoever only joins may ask any of them; whoever founds must be one.
        let founds = self.me == self.master || self.members.contains(&self.me);
        if founds && !self.members.contains(&self.master) {
            return Err(ConfigError::NotAMember {
                address: self.master.clone(),
                members: self.members.join(" "),
                place: place.to_owned(),
            });
        }
        Ok(())
    }
}

fn address(text: &str, place: &str) -> Result<String, ConfigError> {
    let bad = |reason| ConfigError::BadAddress { place: place.to_owned(), reason };
    let address = rpc::addr::parse(text).map_err(|error| bad(error.to_string()))?;
    // A member is found by its address, so it cannot be "any free port".
    if address.ends_with(":0") {
        return Err(bad(format!("`{text}` names port 0")));
    }
    Ok(address)
}

fn parse_list(list: &[String]) -> Result<Vec<String>, ConfigError> {
    collect(list.iter().map(|text| ("--members".to_owned(), text.trim())), "--members")
}

fn parse_file(path: &Path) -> Result<Vec<String>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse_text(&text, &path.display().to_string())
}

/// One address per line; empty lines and `#` comments are skipped.
pub(super) fn parse_text(text: &str, name: &str) -> Result<Vec<String>, ConfigError> {
    let lines = text.lines().enumerate().map(|(number, line)| {
        let line = line.split('#').next().unwrap_or_default().trim();
        (format!("{name} line {}", number + 1), line)
    });
    collect(lines.filter(|(_, line)| !line.is_empty()), name)
}

fn collect<'a>(
    items: impl Iterator<Item = (String, &'a str)>,
    name: &str,
) -> Result<Vec<String>, ConfigError> {
    let mut members: Vec<String> = Vec::new();
    for (place, text) in items {
        let address = address(text, &place)?;
        if members.contains(&address) {
            return Err(ConfigError::Duplicate { place, address });
        }
        members.push(address);
    }
    if members.is_empty() {
        return Err(ConfigError::Empty { place: name.to_owned() });
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(addresses: &[&str]) -> MembersFrom {
        MembersFrom::List(addresses.iter().map(|a| (*a).to_owned()).collect())
    }

    #[test]
    fn reads_the_seed_file_of_bare_ports() {
        let members = parse_text("3001\n 3002 # the second\n\n127.0.0.1:3003\n", "config").unwrap();
        assert_eq!(members, ["127.0.0.1:3001", "127.0.0.1:3002", "127.0.0.1:3003"]);
    }

    #[test]
    fn names_the_line_that_is_wrong() {
        let error = parse_text("3001\nbanana\n", "config").unwrap_err().to_string();
        assert!(error.starts_with("config line 2: "), "{error}");
        let error = parse_text("3001\n0\n", "config").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("port 0"), "{error}");
        let error = parse_text("3001\n127.0.0.1:3001\n", "config").unwrap_err().to_string();
        assert_eq!(error, "config line 2: member 127.0.0.1:3001 is listed twice; list every replica once");
        let error = parse_text("\n# nobody\n", "config").unwrap_err().to_string();
        assert!(error.starts_with("config names no members"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let from = MembersFrom::File("/nonexistent/config".into());
        let error = Group::read("3001", "3001", &from).unwrap_err().to_string();
        assert!(error.starts_with("the configuration file /nonexistent/config cannot be read"), "{error}");
    }

    #[test]
    fn a_founder_needs_the_master_among_the_members() {
        let error = Group::read("3009", "3001", &list(&["3001", "3002"])).unwrap_err().to_string();
        assert!(error.starts_with("the master 127.0.0.1:3009 is not among the members"), "{error}");
        let error = Group::read("3001", "3001", &list(&["3002"])).unwrap_err().to_string();
        assert!(error.starts_with("the master 127.0.0.1:3001 is not among the members"), "{error}");
    }

    #[test]
    fn who_is_not_listed_is_one_who_joins() {
        let group = Group::read("3001", "3003", &list(&["3001", "3002"])).unwrap();
        assert_eq!((group.members.len(), group.me.as_str()), (2, "127.0.0.1:3003"));
    }

    #[test]
    fn a_group_may_be_one_replica_or_too_many() {
        let group = Group::read("3001", "127.0.0.1:3001", &list(&["3001"])).unwrap();
        assert_eq!(group.members, ["127.0.0.1:3001"]);
        let many: Vec<String> = (1..=16).map(|n| format!("{}", 4000 + n)).collect();
        let error = Group::read("4001", "4001", &MembersFrom::List(many)).unwrap_err().to_string();
        assert!(error.contains("16 members; at most 15"), "{error}");
    }
}
