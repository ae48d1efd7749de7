//! What stands in the extent store, byte by byte. Integers are big endian, so that keys sort as numbers do.
//!
//! Keys are `inode u64, kind u8, rest`; inode 0 is the file system itself:
//!
//! | kind | rest | value (after the version byte 1) |
//! | --- | --- | --- |
//! | 0x01 attributes | | see [`Record`] |
//! | 0x02 opened | | nothing: some session may have an opener key here |
//! | 0x03 opener | session u64 | nothing: that session has the inode open without holding its lock |
//! | 0x04 inline data | | the first bytes of the file, at most 64 KiB; what is missing up to its size is zeros |
//! | 0x05 symlink | | the target |
//! | 0x06 | | reserved for extended attributes |
//! | 0x10 entry | hash u64, name | kind u8 (as in [`kind_code`]), inode u64 |
//! | 0x20 orphan (inode 0) | inode u64 | nothing: the inode has no name but may be open |
//! | 0x21 session (inode 0) | session u64 | anchor u64: a lock that the session holds as long as it lives |
//!
//! Entries sort by [`name_hash`], so that a 63-bit number, the cookie of `readdir`, names a place in a directory that
//! stays right while entries come and go. The hash must never change.
//!
//! File data beyond 64 KiB is in the bulk object whose id is the inode number (see `blocks.rs`).

use bytes::{BufMut, Bytes, BytesMut};

use super::errors::FsError;
use super::types::{Attr, FIRST_COOKIE, FileKind, Ino, Time};

/// Data up to this size is inline; it is also the size of a block of cached or bulk data.
pub const BLOCK: u64 = 64 * 1024;

const VERSION: u8 = 1;

const ATTR: u8 = 0x01;
const OPENED: u8 = 0x02;
const OPENER: u8 = 0x03;
const INLINE: u8 = 0x04;
const SYMLINK: u8 = 0x05;
const ENTRY: u8 = 0x10;
const ORPHAN: u8 = 0x20;
const SESSION: u8 = 0x21;

fn key(ino: Ino, kind: u8, rest: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::with_capacity(9 + rest.iter().map(|r| r.len()).sum::<usize>());
    out.put_u64(ino);
    out.put_u8(kind);
    for part in rest {
        out.put_slice(part);
    }
    out.freeze()
}

/// Key of an inode's attributes.
pub fn attr_key(ino: Ino) -> Bytes {
    key(ino, ATTR, &[])
}

/// Key that says "there may be opener keys".
pub fn opened_key(ino: Ino) -> Bytes {
    key(ino, OPENED, &[])
}

/// Key that says "`session` has it open".
pub fn opener_key(ino: Ino, session: u64) -> Bytes {
    key(ino, OPENER, &[&session.to_be_bytes()])
}

/// The range of an inode's opener keys.
pub fn opener_range(ino: Ino) -> (Bytes, Bytes) {
    (key(ino, OPENER, &[]), key(ino, OPENER + 1, &[]))
}

/// Key of a small file's data.
pub fn inline_key(ino: Ino) -> Bytes {
    key(ino, INLINE, &[])
}

/// Key of a symlink's target.
pub fn symlink_key(ino: Ino) -> Bytes {
    key(ino, SYMLINK, &[])
}

/// Key of a directory entry.
pub fn entry_key(dir: Ino, name: &[u8]) -> Bytes {
    key(dir, ENTRY, &[&name_hash(name).to_be_bytes(), name])
}

/// The range of a directory's entries from a hash on.
pub fn entry_range(dir: Ino, from: u64) -> (Bytes, Bytes) {
    (key(dir, ENTRY, &[&from.to_be_bytes()]), key(dir, ENTRY + 1, &[]))
}

/// Key of an orphan's record.
pub fn orphan_key(ino: Ino) -> Bytes {
    key(0, ORPHAN, &[&ino.to_be_bytes()])
}

/// The range of all orphan records from an inode on.
pub fn orphan_range(from: Ino) -> (Bytes, Bytes) {
    (orphan_key(from), key(0, ORPHAN + 1, &[]))
}

/// Key of a session's anchor.
pub fn session_key(session: u64) -> Bytes {
    key(0, SESSION, &[&session.to_be_bytes()])
}

/// The beginning of all keys of an inode.
pub fn inode_prefix(ino: Ino) -> Bytes {
    Bytes::copy_from_slice(&ino.to_be_bytes())
}

/// The last eight bytes of an opener or orphan key: its session or inode.
pub fn trailing_id(key: &[u8]) -> Result<u64, FsError> {
    match key.last_chunk::<8>() {
        Some(bytes) if key.len() == 17 => Ok(u64::from_be_bytes(*bytes)),
        _ => Err(corrupt("a key", key)),
    }
}

/// What a key is about, besides its inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyKind<'a> {
    /// Attributes.
    Attributes,
    /// There may be opener keys.
    Opened,
    /// That session has it open.
    Opener(u64),
    /// A small file's data.
    Inline,
    /// A symlink's target.
    Symlink,
    /// A name, and the hash that the key has for it.
    Entry(u64, &'a [u8]),
    /// The inode of an orphan record (the key's own inode is 0).
    Orphan(Ino),
    /// The session of an anchor (the key's own inode is 0).
    Session(u64),
}

/// Takes a key apart: the inode it begins with, and what it is about. `None` if it is none of the keys above.
pub fn parse_key(key: &[u8]) -> Option<(Ino, KeyKind<'_>)> {
    let (ino, rest) = key.split_first_chunk::<8>()?;
    let ino = Ino::from_be_bytes(*ino);
    let (kind, rest) = rest.split_first()?;
    let kind = match (*kind, ino, rest.len()) {
        (ORPHAN, 0, 8) => KeyKind::Orphan(trailing_id(key).ok()?),
        (SESSION, 0, 8) => KeyKind::Session(trailing_id(key).ok()?),
        (_, 0, _) => return None,
        (ATTR, _, 0) => KeyKind::Attributes,
        (OPENED, _, 0) => KeyKind::Opened,
        (OPENER, _, 8) => KeyKind::Opener(trailing_id(key).ok()?),
        (INLINE, _, 0) => KeyKind::Inline,
        (SYMLINK, _, 0) => KeyKind::Symlink,
        (ENTRY, ..) => {
            let (hash, name) = entry_name(key).ok()?;
            KeyKind::Entry(hash, name)
        }
        _ => return None,
    };
    Some((ino, kind))
}

/// Hash and name of an entry key.
pub fn entry_name(key: &[u8]) -> Result<(u64, &[u8]), FsError> {
    match key.get(9..).and_then(|rest| rest.split_first_chunk::<8>()) {
        Some((hash, name)) if !name.is_empty() => Ok((u64::from_be_bytes(*hash), name)),
        _ => Err(corrupt("an entry key", key)),
    }
}

/// The place of a name in its directory: 64-bit FNV-1a, then the finaliser of MurmurHash3 (both public domain), cut to
/// 63 bits and kept clear of the cookies below [`FIRST_COOKIE`].
pub fn name_hash(name: &[u8]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name {
        h = (h ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((h ^ (h >> 33)) >> 1).max(FIRST_COOKIE)
}

/// The byte that stands for a kind.
pub fn kind_code(kind: FileKind) -> u8 {
    match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::Symlink => 3,
        FileKind::Fifo => 4,
        FileKind::Socket => 5,
        FileKind::CharDevice => 6,
        FileKind::BlockDevice => 7,
    }
}

fn kind_of(code: u8) -> Option<FileKind> {
    Some(match code {
        1 => FileKind::Regular,
        2 => FileKind::Directory,
        3 => FileKind::Symlink,
        4 => FileKind::Fifo,
        5 => FileKind::Socket,
        6 => FileKind::CharDevice,
        7 => FileKind::BlockDevice,
        _ => return None,
    })
}

/// Where a file's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// In the inline key (or nowhere, when empty).
    Inline,
    /// In the bulk object.
    Bulk,
    /// As `Inline`; but an empty bulk object is left from before the file was cut to nothing.
    Emptied,
}

const LAYOUTS: [Layout; 3] = [Layout::Inline, Layout::Bulk, Layout::Emptied];

/// An inode's attributes as stored: `version u8, layout u8 (place in [`Layout`]), kind u8, 0 u8, perm u32, nlink u32, uid
/// u32, gid u32, rdev u32, size u64, parent u64`, then access, modification and change time as `secs i64, nanos u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The attributes shown.
    pub attr: Attr,
    /// Where the data is.
    pub layout: Layout,
    /// The parent of a directory, otherwise 0.
    pub parent: Ino,
}

const RECORD_LEN: usize = 4 + 5 * 4 + 2 * 8 + 3 * 12;

impl Record {
    /// The attributes as shown.
    pub fn shown(&self) -> Attr {
        Attr {
            blocks: self.attr.size.div_ceil(512) * u64::from(self.attr.kind == FileKind::Regular),
            ..self.attr
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.attr.kind == FileKind::Directory
    }

    /// The attributes change. The change time never stands still or goes back, whatever the clock does.
    pub fn changed(&mut self, now: Time) {
        self.attr.ctime = now.max(self.attr.ctime.next());
    }

    /// The contents change. The modification time follows the change time, so that it is one that no kernel has seen
    /// of this inode, and is right again after someone had set it to the future.
    pub fn modified(&mut self, now: Time) {
        self.changed(now);
        let t = self.attr.ctime;
        self.attr.mtime = if self.attr.mtime == t { t.next() } else { t };
    }

    /// The stored form.
    pub fn encode(&self) -> Bytes {
        let a = &self.attr;
        let mut out = BytesMut::with_capacity(RECORD_LEN);
        out.put_slice(&[VERSION, self.layout as u8, kind_code(a.kind), 0]);
        out.put_u32(a.perm.into());
        for n in [a.nlink, a.uid, a.gid, a.rdev] {
            out.put_u32(n);
        }
        out.put_u64(a.size);
        out.put_u64(self.parent);
        for t in [a.atime, a.mtime, a.ctime] {
            out.put_i64(t.secs);
            out.put_u32(t.nanos);
        }
        out.freeze()
    }

    /// From the stored form.
    pub fn decode(ino: Ino, bytes: &[u8]) -> Result<Record, FsError> {
        Record::parse(ino, bytes).ok_or_else(|| FsError::Io(format!("corrupt attributes of inode {ino}")))
    }

    fn parse(ino: Ino, bytes: &[u8]) -> Option<Record> {
        let mut r = Reader(bytes);
        if bytes.len() != RECORD_LEN || r.u8()? != VERSION {
            return None;
        }
        let layout = *LAYOUTS.get(usize::from(r.u8()?))?;
        let kind = kind_of(r.u8()?)?;
        r.u8()?;
        let perm = u16::try_from(r.u32()?).ok()?;
        let [nlink, uid, gid, rdev] = [r.u32()?, r.u32()?, r.u32()?, r.u32()?];
        let (size, parent) = (r.u64()?, r.u64()?);
        let [atime, mtime, ctime] = [r.time()?, r.time()?, r.time()?];
        let attr = Attr { ino, kind, perm, nlink, uid, gid, rdev, size, blocks: 0, atime, mtime, ctime };
        Some(Record { attr, layout, parent })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|b| b[0])
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
    fn time(&mut self) -> Option<Time> {
        let (secs, nanos) = (i64::from_be_bytes(self.take()?), self.u32()?);
        (nanos < 1_000_000_000).then_some(Time { secs, nanos })
    }
}

/// The value of an entry.
pub fn encode_entry(ino: Ino, kind: FileKind) -> Bytes {
    let mut out = BytesMut::with_capacity(10);
    out.put_slice(&[VERSION, kind_code(kind)]);
    out.put_u64(ino);
    out.freeze()
}

/// What an entry's value says.
pub fn decode_entry(key: &[u8], value: &[u8]) -> Result<(Ino, FileKind), FsError> {
    let mut r = Reader(value);
    let parsed = match (value.len(), r.u8(), r.u8().and_then(kind_of), r.u64()) {
        (10, Some(VERSION), Some(kind), Some(ino)) if ino != 0 => Some((ino, kind)),
        _ => None,
    };
    parsed.ok_or_else(|| corrupt("a directory entry", key))
}

/// A value that is some bytes: inline data, a symlink's target.
pub fn encode_bytes(data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + data.len());
    out.put_u8(VERSION);
    out.put_slice(data);
    out.freeze()
}

/// The bytes of such a value.
pub fn decode_bytes(key: &[u8], value: &Bytes) -> Result<Bytes, FsError> {
    match value.first() {
        Some(&VERSION) => Ok(value.slice(1..)),
        _ => Err(corrupt("data", key)),
    }
}

/// The value of keys that say everything by being there.
pub fn mark() -> Bytes {
    Bytes::from_static(&[VERSION])
}

/// The value of a session's key.
pub fn encode_anchor(anchor: Ino) -> Bytes {
    encode_bytes(&anchor.to_be_bytes())
}

/// The anchor in a session's value.
pub fn decode_anchor(key: &[u8], value: &Bytes) -> Result<Ino, FsError> {
    let bytes = decode_bytes(key, value)?;
    let id = <[u8; 8]>::try_from(&bytes[..]).map_err(|_| corrupt("a session's anchor", key))?;
    Ok(u64::from_be_bytes(id))
}

fn corrupt(what: &str, key: &[u8]) -> FsError {
    FsError::Io(format!("corrupt record: {what} at key {}", key.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let t = |secs, nanos| Time { secs, nanos };
        let attr = Attr {
            ino: 77,
            kind: FileKind::Directory,
            perm: 0o2755,
            nlink: 5,
            uid: 1000,
            gid: 7,
            rdev: 9,
            size: 1 << 40,
            blocks: 0,
            atime: t(-5, 999_999_999),
            mtime: t(1, 2),
            ctime: t(i64::MAX, 0),
        };
        Record { attr, layout: Layout::Bulk, parent: 3 }
    }

    #[test]
    fn records_come_back_as_they_went() {
        assert_eq!(Record::decode(77, &record().encode()), Ok(record()));
        let key = entry_key(5, b"name");
        assert_eq!(decode_entry(&key, &encode_entry(9, FileKind::Fifo)), Ok((9, FileKind::Fifo)));
        assert_eq!(entry_name(&key), Ok((name_hash(b"name"), &b"name"[..])));
        assert_eq!(trailing_id(&opener_key(4, 6)), Ok(6));
        assert_eq!(decode_anchor(b"", &encode_anchor(12)), Ok(12));
    }

    #[test]
    fn keys_come_apart_as_they_were_made() {
        let hash = name_hash(b"name");
        let keys = [
            (attr_key(7), 7, KeyKind::Attributes),
            (opened_key(7), 7, KeyKind::Opened),
            (opener_key(7, 9), 7, KeyKind::Opener(9)),
            (inline_key(7), 7, KeyKind::Inline),
            (symlink_key(7), 7, KeyKind::Symlink),
            (entry_key(7, b"name"), 7, KeyKind::Entry(hash, b"name")),
            (orphan_key(7), 0, KeyKind::Orphan(7)),
            (session_key(7), 0, KeyKind::Session(7)),
        ];
        for (key, ino, kind) in &keys {
            assert_eq!(parse_key(key), Some((*ino, kind.clone())));
            let of_another = [&3u64.to_be_bytes(), &key[8..]].concat();
            assert_eq!(
                parse_key(&of_another).is_some(),
                *ino != 0,
                "inode 0 and the others have keys of their own"
            );
            assert_eq!(parse_key(&key[..8]), None);
        }
        assert_eq!(parse_key(&key(7, 0x99, &[])), None);
        assert_eq!(parse_key(&key(0, ATTR, &[])), None);
        assert_eq!(parse_key(&key(7, ATTR, &[b"x"])), None);
    }

    #[test]
    fn damaged_records_are_refused() {
        let good = record().encode();
        for cut in 0..good.len() {
            assert!(Record::decode(77, &good[..cut]).is_err());
        }
        for at in [0, 1, 2] {
            let mut bad = good.to_vec();
            bad[at] = 200;
            assert!(Record::decode(77, &bad).is_err());
        }
        assert!(decode_entry(b"k", &[1, 1, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(decode_bytes(b"k", &Bytes::new()).is_err());
        assert!(entry_name(b"short").is_err());
    }

    /// The hash is part of the stored format: these values must never change.
    #[test]
    fn the_name_hash_is_fixed() {
        let known = (8_640_173_135_264_257_171, 4_706_636_184_713_914_157, 5_884_543_976_325_184_427);
        assert_eq!((name_hash(b""), name_hash(b"a"), name_hash(b"file")), known);
        assert!(name_hash(b"file") >= FIRST_COOKIE && name_hash(b"file") < 1 << 63);
    }
}
