//! Everything that can be wrong with a store, and what is done about it.

use std::fmt;

use crate::core::types::{FileKind, Ino, SYMLINK_MAX};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Normal; it goes away by itself or only takes space.
    Information,
    /// The store does not agree with itself.
    Error,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The inode it is about: of an entry, its directory. 0 is the file system itself.
    pub ino: Ino,
    /// A path of that inode, when it is below the root; names with control characters or other bytes than UTF-8 are
    /// escaped.
    pub path: Option<String>,
    /// What it is.
    pub problem: Problem,
}

/// What can be found. Names are shown as in [`Finding::path`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are what the text of each says
pub enum Problem {
    /// A key that no version wrote.
    UnknownKey { key: String },
    /// A value that makes no sense.
    Undecodable { key: String, what: &'static str },
    /// The extent server cannot read it: its checksum is wrong.
    Unreadable { what: String },
    /// There is no root directory.
    NoRoot,
    /// The root is something else.
    RootIsNoDirectory { kind: FileKind },
    /// Data or names of an inode that has no attributes.
    NoAttributes,
    /// A name that no file may have.
    BadName { name: String, child: Ino },
    /// An entry that no lookup finds.
    MisplacedEntry { name: String, child: Ino },
    /// A name that is there twice.
    DuplicateEntry { name: String, child: Ino },
    /// An entry without inode.
    EntryWithoutInode { name: String, child: Ino },
    /// An entry in what is no directory.
    EntryInFile { name: String, child: Ino },
    /// An entry that says another kind than the inode.
    WrongEntryKind { name: String, child: Ino, says: FileKind, is: FileKind },
    /// A directory's further name.
    SecondName { name: String, child: Ino },
    /// `..` leads elsewhere.
    WrongParent { says: Ino, is: Ino },
    /// An inode without entry that is not unlinked.
    WithoutEntry { kind: FileKind },
    /// Directories below themselves.
    Loop { through: Vec<Ino> },
    /// A link count.
    WrongLinks { says: u32, counted: u64 },
    /// A directory's size.
    WrongEntryCount { says: u64, counted: u64 },
    /// A size that cannot be.
    ImpossibleSize { size: u64, max: u64 },
    /// Inline data longer than the file.
    InlineBeyondSize { size: u64, len: u64 },
    /// Inline data of a file whose data is in a bulk object.
    InlineBesideBulk { len: u64 },
    /// Data that this kind of inode does not have.
    ForeignData { kind: FileKind, what: &'static str },
    /// A symbolic link that leads nowhere.
    NoTarget,
    /// A symbolic link's length.
    WrongTargetLength { size: u64, len: u64 },
    /// Bulk data behind the end, left by a client that died before its commit.
    BlocksBeyondSize { size: u64, blocks: u64 },
    /// Unlinked, but perhaps open.
    Orphan { openers: Vec<u64> },
    /// Unlinked, but nobody would ever remove it.
    UnlinkedWithoutRecord,
    /// An orphan record of nothing.
    OrphanRecordWithoutInode,
    /// An orphan record of an inode that has names.
    OrphanRecordOfNamed,
    /// Someone is to have open what is not there.
    StrayOpener { sessions: Vec<u64> },
    /// Someone has it open, but who unlinks it would not see that.
    OpenerWithoutMark { sessions: Vec<u64> },
    /// Opened by sessions that are gone.
    StaleOpeners { sessions: Vec<u64> },
    /// The anchor of a session that is gone.
    DeadSession { session: u64 },
    /// A number that was never given out.
    NotAllocated { below: Ino },
}

impl Problem {
    /// Whether it is an error.
    pub fn severity(&self) -> Severity {
        match self {
            Problem::BlocksBeyondSize { .. }
            | Problem::Orphan { .. }
            | Problem::StaleOpeners { .. }
            | Problem::DeadSession { .. } => Severity::Information,
            _ => Severity::Error,
        }
    }

    /// Its name, for scripts: stays.
    pub fn name(&self) -> &'static str {
        match self {
            Problem::UnknownKey { .. } => "unknown_key",
            Problem::Undecodable { .. } => "undecodable",
            Problem::Unreadable { .. } => "unreadable",
            Problem::NoRoot => "no_root",
            Problem::RootIsNoDirectory { .. } => "root_is_no_directory",
            Problem::NoAttributes => "no_attributes",
            Problem::BadName { .. } => "bad_name",
            Problem::MisplacedEntry { .. } => "misplaced_entry",
            Problem::DuplicateEntry { .. } => "duplicate_entry",
            Problem::EntryWithoutInode { .. } => "entry_without_inode",
            Problem::EntryInFile { .. } => "entry_in_file",
            Problem::WrongEntryKind { .. } => "wrong_entry_kind",
            Problem::SecondName { .. } => "second_name",
            Problem::WrongParent { .. } => "wrong_parent",
            Problem::WithoutEntry { .. } => "without_entry",
            Problem::Loop { .. } => "loop",
            Problem::WrongLinks { .. } => "wrong_links",
            Problem::WrongEntryCount { .. } => "wrong_entry_count",
            Problem::ImpossibleSize { .. } => "impossible_size",
            Problem::InlineBeyondSize { .. } => "inline_beyond_size",
            Problem::InlineBesideBulk { .. } => "inline_beside_bulk",
            Problem::ForeignData { .. } => "foreign_data",
            Problem::NoTarget => "no_target",
            Problem::WrongTargetLength { .. } => "wrong_target_length",
            Problem::BlocksBeyondSize { .. } => "blocks_beyond_size",
            Problem::Orphan { .. } => "orphan",
            Problem::UnlinkedWithoutRecord => "unlinked_without_record",
            Problem::OrphanRecordWithoutInode => "orphan_record_without_inode",
            Problem::OrphanRecordOfNamed => "orphan_record_of_named",
            Problem::StrayOpener { .. } => "stray_opener",
            Problem::OpenerWithoutMark { .. } => "opener_without_mark",
            Problem::StaleOpeners { .. } => "stale_openers",
            Problem::DeadSession { .. } => "dead_session",
            Problem::NotAllocated { .. } => "not_allocated",
        }
    }

    /// What helps: what `--repair` does, or what becomes of it without.
    pub fn remedy(&self) -> &'static str {
        match self {
            Problem::UnknownKey { .. } => "repair removes the key",
            Problem::Undecodable { what: "attributes", .. } | Problem::NoAttributes => {
                "repair makes attributes from what is there, readable by root only"
            }
            Problem::Undecodable { .. } => "repair removes the record",
            Problem::Unreadable { .. } => {
                "no repair: restore the extent server's data from a backup, or remove the file"
            }
            Problem::NoRoot | Problem::RootIsNoDirectory { .. } => "repair makes a root directory",
            Problem::BadName { .. } => "repair removes the name; what has no other comes to lost+found",
            Problem::MisplacedEntry { .. } => "repair puts it in its place",
            Problem::DuplicateEntry { .. } => {
                "repair removes the one that no lookup finds; what has no other name comes to lost+found"
            }
            Problem::EntryWithoutInode { .. } | Problem::EntryInFile { .. } => "repair removes the entry",
            Problem::WrongEntryKind { .. } => "repair makes the entry say what the inode is",
            Problem::SecondName { .. } => "repair removes this name and leaves the other",
            Problem::WrongParent { .. } => "repair sets the parent",
            Problem::WithoutEntry { .. } => "repair gives it a name in lost+found",
            Problem::Loop { .. } => "repair cuts the circle and gives it a name in lost+found",
            Problem::WrongLinks { .. } => "repair corrects the count",
            Problem::WrongEntryCount { .. } => "repair corrects the size",
            Problem::ImpossibleSize { .. } | Problem::InlineBeyondSize { .. } => {
                "repair sets the size to the data that is there"
            }
            Problem::InlineBesideBulk { .. } | Problem::ForeignData { .. } => "repair removes the data",
            Problem::NoTarget => "repair removes the symbolic link",
            Problem::WrongTargetLength { .. } => "repair corrects the size",
            Problem::BlocksBeyondSize { .. } => "goes when the file is next grown or removed",
            Problem::Orphan { .. } => {
                "goes with its last close, or at the next mount when its openers are gone"
            }
            Problem::UnlinkedWithoutRecord => "repair notes it, so that the next mount removes it",
            Problem::OrphanRecordWithoutInode | Problem::OrphanRecordOfNamed => "repair removes the record",
            Problem::StrayOpener { .. } => "repair removes the keys",
            Problem::OpenerWithoutMark { .. } => "repair sets the mark",
            Problem::StaleOpeners { .. } => "goes with the inode",
            Problem::DeadSession { .. } => "goes when somebody asks whether the session lives",
            Problem::NotAllocated { .. } => {
                "no repair: the lock service has lost what it gave out and would give the number out again; copy \
                 everything to a new cluster"
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::UnknownKey { key } => write!(f, "the key {key} is none of this version's"),
            Problem::Undecodable { key, what } => write!(f, "{what} at key {key} make no sense"),
            Problem::Unreadable { what } => write!(f, "cannot be read: {what}"),
            Problem::NoRoot => write!(f, "there is no root directory"),
            Problem::RootIsNoDirectory { kind } => write!(f, "the root is {}", a(*kind)),
            Problem::NoAttributes => write!(f, "has data or names, but no attributes"),
            Problem::BadName { name, child } => {
                write!(f, "its entry \"{name}\" (inode {child}) is no valid name")
            }
            Problem::MisplacedEntry { name, child } => {
                write!(f, "its entry \"{name}\" (inode {child}) stands where no lookup finds it")
            }
            Problem::DuplicateEntry { name, child } => {
                write!(f, "its entry \"{name}\" is there a second time, for inode {child}")
            }
            Problem::EntryWithoutInode { name, child } => {
                write!(f, "its entry \"{name}\" stands for inode {child}, which does not exist")
            }
            Problem::EntryInFile { name, child } => {
                write!(f, "is no directory, but has an entry \"{name}\" for inode {child}")
            }
            Problem::WrongEntryKind { name, child, says, is } => {
                write!(f, "its entry \"{name}\" says that inode {child} is {}, which is {}", a(*says), a(*is))
            }
            Problem::SecondName { name, child } => {
                write!(f, "its entry \"{name}\" is a second name of directory {child}")
            }
            Problem::WrongParent { says, is } => {
                write!(f, "says that its parent is {says}, but it is in {is}")
            }
            Problem::WithoutEntry { kind } => write!(f, "is {} without a name", a(*kind)),
            Problem::Loop { through } => {
                write!(f, "is a directory below itself, by way of {}", list(through))
            }
            Problem::WrongLinks { says, counted } => write!(f, "says {says} links, but has {counted}"),
            Problem::WrongEntryCount { says, counted } => {
                write!(f, "says {says} entries, but has {counted}")
            }
            Problem::ImpossibleSize { size, max } => {
                write!(f, "says {size} bytes, but can have {max} at most")
            }
            Problem::InlineBeyondSize { size, len } => write!(f, "says {size} bytes, but {len} are there"),
            Problem::InlineBesideBulk { len } => {
                write!(f, "has {len} bytes of inline data beside those in its object")
            }
            Problem::ForeignData { kind, what } => write!(f, "is {}, but has {what}", a(*kind)),
            Problem::NoTarget => {
                write!(f, "is a symbolic link without a target of 1 to {SYMLINK_MAX} bytes")
            }
            Problem::WrongTargetLength { size, len } => {
                write!(f, "says {size} bytes, but its target has {len}")
            }
            Problem::BlocksBeyondSize { size, blocks } => {
                write!(f, "has up to {blocks} blocks behind its end at {size} bytes, which nobody sees")
            }
            Problem::Orphan { openers } if openers.is_empty() => {
                write!(f, "is unlinked, and open where it was unlinked or nowhere")
            }
            Problem::Orphan { openers } => write!(f, "is unlinked, and open in session {}", list(openers)),
            Problem::UnlinkedWithoutRecord => write!(f, "is unlinked, but not noted as an orphan"),
            Problem::OrphanRecordWithoutInode => write!(f, "is noted as an orphan, but does not exist"),
            Problem::OrphanRecordOfNamed => write!(f, "is noted as an orphan, but has a name"),
            Problem::StrayOpener { sessions } if sessions.is_empty() => {
                write!(f, "is marked as opened, but does not exist")
            }
            Problem::StrayOpener { sessions } => {
                write!(f, "is noted as open in session {}, but does not exist", list(sessions))
            }
            Problem::OpenerWithoutMark { sessions } => {
                write!(f, "is open in session {}, but not marked so", list(sessions))
            }
            Problem::StaleOpeners { sessions } => {
                write!(f, "is noted as open in session {}, which is gone", list(sessions))
            }
            Problem::DeadSession { session } => write!(f, "session {session} has an anchor, but is gone"),
            Problem::NotAllocated { below } => {
                write!(f, "has a number that was not given out (the next is {below})")
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ino, &self.path) {
            (0, _) => {}
            (ino, None) => write!(f, "inode {ino}: ")?,
            (ino, Some(path)) => write!(f, "inode {ino} ({path}): ")?,
        }
        write!(f, "{}; {}", self.problem, self.problem.remedy())
    }
}

fn a(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "a file",
        FileKind::Directory => "a directory",
        FileKind::Symlink => "a symbolic link",
        FileKind::Fifo => "a pipe",
        FileKind::Socket => "a socket",
        FileKind::CharDevice => "a character device",
        FileKind::BlockDevice => "a block device",
    }
}

fn list(ids: &[u64]) -> String {
    const SHOWN: usize = 10;
    let mut text = ids.iter().take(SHOWN).map(u64::to_string).collect::<Vec<_>>().join(", ");
    if ids.len() > SHOWN {
        text.push_str(&format!(" and {} more", ids.len() - SHOWN));
    }
    text
}
