//! The workloads, each the work of one process in one directory, as rates.

use crate::rng::Rng;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How much of everything.
#[derive(Debug, Clone)]
pub struct Size {
    /// Files of the metadata workloads and of 4 KiB files.
    pub files: usize,
    /// Writes that are synced one by one.
    pub synced: usize,
    /// MiB of the sequential workloads.
    pub sequential_mib: usize,
}

/// A measured workload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Its name.
    pub name: &'static str,
    /// `op/s` or `MB/s`.
    pub unit: &'static str,
    /// The figure; higher is better.
    pub value: f64,
}

const BLOCK: usize = 4096;
const MIB: usize = 1 << 20;

/// Whether page caches can be dropped here (root only); without, "cold" workloads are left out.
pub fn can_drop_caches() -> bool {
    OpenOptions::new().write(true).open("/proc/sys/vm/drop_caches").is_ok()
}

fn drop_caches() -> io::Result<()> {
    // SAFETY: sync takes nothing and returns nothing.
    unsafe { libc::sync() };
    fs::write("/proc/sys/vm/drop_caches", "3")
}

/// Runs all workloads once in a fresh directory below `dir`.
pub fn run(dir: &Path, size: &Size, seed: u64, mut progress: impl FnMut(&Rate)) -> io::Result<Vec<Rate>> {
    let base = dir.join(format!("bench-{}-{}", std::process::id(), Rng::new(Rng::fresh_seed()).letters(4)));
    fs::create_dir(&base)?;
    let mut load = Load { rng: Rng::new(seed), rates: Vec::new(), progress: &mut progress };
    load.metadata(&base.join("meta"), size.files)?;
    load.small(&base.join("small"), size)?;
    load.sequential(&base.join("large"), size.sequential_mib)?;
    let rates = load.rates;
    fs::remove_dir_all(&base)?;
    Ok(rates)
}

struct Load<'a> {
    rng: Rng,
    rates: Vec<Rate>,
    progress: &'a mut dyn FnMut(&Rate),
}

impl Load<'_> {
    /// Times `work`, which does `amount` operations (or megabytes).
    fn rate(
        &mut self,
        name: &'static str,
        unit: &'static str,
        amount: f64,
        work: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let began = Instant::now();
        work()?;
        let rate = Rate { name, unit, value: amount / began.elapsed().as_secs_f64() };
        (self.progress)(&rate);
        self.rates.push(rate);
        Ok(())
    }

    fn operations(
        &mut self,
        name: &'static str,
        paths: &[PathBuf],
        one: impl Fn(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        self.rate(name, "op/s", paths.len() as f64, || paths.iter().try_for_each(|path| one(path)))
    }

    /// The paths in an order of chance, so that nothing is found by reading ahead.
    fn shuffled(&mut self, mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
        for i in (1..paths.len()).rev() {
            paths.swap(i, self.rng.below(i + 1));
        }
        paths
    }

    fn metadata(&mut self, dir: &Path, files: usize) -> io::Result<()> {
        fs::create_dir(dir)?;
        let paths = numbered(dir, files);
        self.operations("create", &paths, |path| File::create_new(path).map(drop))?;
        let shuffled = self.shuffled(paths);
        self.operations("stat", &shuffled, |path| fs::symlink_metadata(path).map(drop))?;
        self.rate("readdir+stat", "op/s", files as f64, || list(dir, files))?;
        if can_drop_caches() {
            drop_caches()?;
            self.rate("readdir+stat cold", "op/s", files as f64, || list(dir, files))?;
        }
        self.operations("unlink", &shuffled, |path| fs::remove_file(path))
    }

    fn small(&mut self, dir: &Path, size: &Size) -> io::Result<()> {
        fs::create_dir(dir)?;
        let content = self.rng.bytes(BLOCK);
        let paths = numbered(dir, size.files);
        self.operations("write 4 KiB", &paths, |path| File::create(path)?.write_all(&content))?;
        let shuffled = self.shuffled(paths);
        let read = |path: &Path| {
            let mut block = [0; BLOCK];
            File::open(path)?.read_exact(&mut block)
        };
        self.operations("read 4 KiB", &shuffled, read)?;
        if can_drop_caches() {
            drop_caches()?;
            self.operations("read 4 KiB cold", &shuffled, read)?;
        }
        let synced: Vec<_> =
            numbered(dir, size.synced).into_iter().map(|path| path.with_extension("synced")).collect();
        self.operations("write 4 KiB + fsync", &synced, |path| {
            let mut file = File::create(path)?;
            file.write_all(&content)?;
            file.sync_all()
        })?;
        // Overwriting one block of a file that exists, which is what a database does.
        let one = File::create(dir.join("one"))?;
        let offsets: Vec<u64> = (0..size.synced).map(|_| (self.rng.below(256) * BLOCK) as u64).collect();
        one.write_all_at(&vec![1; 256 * BLOCK], 0)?;
        one.sync_all()?;
        self.rate("overwrite 4 KiB + fsync", "op/s", size.synced as f64, || {
            offsets.iter().try_for_each(|offset| {
                one.write_all_at(&content, *offset)?;
                one.sync_data()
            })
        })
    }

    fn sequential(&mut self, path: &Path, mib: usize) -> io::Result<()> {
        let content = self.rng.bytes(MIB);
        let megabytes = (mib * MIB) as f64 / 1e6;
        self.rate("sequential write", "MB/s", megabytes, || {
            let mut file = File::create(path)?;
            (0..mib).try_for_each(|_| file.write_all(&content))?;
            file.sync_all()
        })?;
        let read = || {
            let (mut file, mut block) = (File::open(path)?, vec![0; MIB]);
            (0..mib).try_for_each(|_| file.read_exact(&mut block))
        };
        if can_drop_caches() {
            drop_caches()?;
            self.rate("sequential read cold", "MB/s", megabytes, read)?;
        }
        self.rate("sequential read", "MB/s", megabytes, read)
    }
}

fn numbered(dir: &Path, n: usize) -> Vec<PathBuf> {
    (0..n).map(|i| dir.join(format!("file-{i:06}"))).collect()
}

/// Lists `dir` and looks at every entry, as `ls -l` does.
fn list(dir: &Path, expected: usize) -> io::Result<()> {
    let mut found = 0;
    for entry in fs::read_dir(dir)? {
        entry?.metadata()?;
        found += 1;
    }
    if found == expected {
        Ok(())
    } else {
        Err(io::Error::other(format!("{found} entries instead of {expected}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_runs_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let size = Size { files: 20, synced: 3, sequential_mib: 2 };
        let mut seen = 0;
        let rates = run(dir.path(), &size, 1, |_| seen += 1).unwrap();
        assert_eq!(seen, rates.len());
        assert!(rates.iter().all(|rate| rate.value.is_finite() && rate.value > 0.0), "{rates:?}");
        for name in ["create", "stat", "readdir+stat", "unlink", "write 4 KiB + fsync", "sequential read"] {
            assert!(rates.iter().any(|rate| rate.name == name), "{name}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
