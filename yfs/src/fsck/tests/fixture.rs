//! A small store with one of everything, made by the real core.

use bytes::Bytes;

use crate::core::format::{self, Record};
use crate::core::testing::check::{self, USER};
use crate::core::testing::store::Server;
use crate::core::testing::{Client, World};
use crate::core::{FileKind, Ino, Limits, OpenFlags, ROOT, SetAttr};
use crate::fsck::{Known, Problem, Report};

/// The store and what is in it.
pub struct Fixture {
    pub world: World,
    pub client: Client,
    /// `/dir`
    pub dir: Ino,
    /// `/dir/sub`
    pub sub: Ino,
    /// `/dir/file`, inline; also `/other`
    pub file: Ino,
    /// `/big`, four blocks in bulk
    pub big: Ino,
    /// `/link`
    pub link: Ino,
    /// `/pipe`
    pub pipe: Ino,
    /// `/dir/sub/deep`
    pub deep: Ino,
}

impl Fixture {
    pub fn new() -> Fixture {
        let mut world = World::new(7);
        let client = world.mount(Limits::default());
        let fs = &client.fs;
        let made = client.run(async {
            let dir = fs.mkdir(ROOT, b"dir", 0o755, USER).await?.value.ino;
            let sub = fs.mkdir(dir, b"sub", 0o755, USER).await?.value.ino;
            let file = fs.create(dir, b"file", 0o644, USER, OpenFlags::default()).await?.value.ino;
            fs.write(file, 0, Bytes::from_static(b"hello"), false, USER).await?;
            fs.release(file).await?;
            fs.link(file, ROOT, b"other").await?;
            let big = fs.create(ROOT, b"big", 0o644, USER, OpenFlags::default()).await?.value.ino;
            fs.write(big, 0, vec![7; 200_000].into(), false, USER).await?;
            fs.release(big).await?;
            let link = fs.symlink(ROOT, b"link", b"dir/file", USER).await?.value.ino;
            let pipe = fs.mknod(ROOT, b"pipe", FileKind::Fifo, 0o644, 0, USER).await?.value.ino;
            let deep = fs.create(sub, b"deep", 0o644, USER, OpenFlags::default()).await?.value.ino;
            fs.release(deep).await?;
            fs.setattr(deep, SetAttr { mode: Some(0o600), ..SetAttr::default() }, USER).await?;
            fs.flush_all().await?;
            Ok((dir, sub, file, big, link, pipe, deep))
        });
        let (dir, sub, file, big, link, pipe, deep) = made.unwrap();
        Fixture { world, client, dir, sub, file, big, link, pipe, deep }
    }

    pub fn server(&self) -> parking_lot::MutexGuard<'_, Server> {
        self.world.server.lock()
    }

    pub fn check(&self) -> Report {
        self.check_with(&Known::default())
    }

    pub fn check_with(&self, known: &Known) -> Report {
        check::fsck(&self.server(), known)
    }

    pub fn put(&self, key: Bytes, value: Bytes) {
        self.server().plant(key, Some(value));
    }

    pub fn remove(&self, key: Bytes) {
        self.server().plant(key, None);
    }

    /// Changes an inode's attributes in the store.
    pub fn edit(&self, ino: Ino, change: impl FnOnce(&mut Record)) {
        let key = format::attr_key(ino);
        let mut server = self.server();
        let value = server.pairs().find(|(k, _)| **k == key).map(|(_, value)| value.clone()).unwrap();
        let mut record = Record::decode(ino, &value).unwrap();
        change(&mut record);
        server.plant(key, Some(record.encode()));
    }

    /// Adds an entry with nothing else.
    pub fn name(&self, dir: Ino, name: &[u8], child: Ino, kind: FileKind) {
        self.put(format::entry_key(dir, name), format::encode_entry(child, kind));
    }

    pub fn unname(&self, dir: Ino, name: &[u8]) {
        self.remove(format::entry_key(dir, name));
    }

    /// Another mount, which has nothing cached.
    pub fn mount(&mut self) -> Client {
        self.world.mount(Limits::default())
    }
}

/// The problems of a report, with the inode of each.
pub fn problems(report: &Report) -> Vec<(Ino, Problem)> {
    report.findings.iter().map(|finding| (finding.ino, finding.problem.clone())).collect()
}
