//! The store on a real disk.

use super::files::{DirLock, Format, sync_dir};
use super::frame::{Frame, Item};
use super::progress::Progress;
use super::replay::{Replayed, Unusable, replay};
use super::segment::{self, Segment};
use super::snapshots::{CHUNK_BYTES, Snapshots, chunk_count};
use super::spans::Spans;
use super::watermark::{Mark, Watermark};
use super::{
    Identity, LogWrite, Recovered, SaveSnapshot, SavedSnapshot, Snapshot, SnapshotPiece, Store, StoreError,
    cluster_id,
};
use crate::consensus::{Entry, HardState, Membership, Viewstamp};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of items after which a group of writes goes on in another frame.
const FRAME_BYTES: usize = 4 << 20;

/// A replica's store in a directory. See the module's page for the layout.
pub struct DiskStore {
    dir: PathBuf,
    segment: Segment,
    /// The number of the file that is written to, and of the last frame in it.
    number: u64,
    last_frame: u64,
    /// Files before it: their numbers, and the last entry in each.
    older: VecDeque<(u64, u64)>,
    /// The seq of the last entry ever put into the file that is written to.
    reaches: u64,
    identity: Identity,
    founding: Option<Membership>,
    snapshot: Option<SavedSnapshot>,
    spans: Spans,
    watermark: Watermark,
    progress: Progress,
    /// What is on disk now.
    mark: Mark,
    /// The last generation given to a snapshot file.
    generation: u64,
    /// Snapshot files that the next write makes superfluous.
    superseded: Vec<u64>,
    snapshots: Snapshots,
    format: Format,
    // Dropped last: the lock on the directory.
    _lock: Arc<DirLock>,
}

impl DiskStore {
    /// Opens the directory of the replica at `address`, making it when it is new.
    ///
    /// When it is refused, all files are as they were before.
    pub fn open(dir: &Path, address: &str) -> Result<(DiskStore, Recovered), StoreError> {
        std::fs::create_dir_all(dir).map_err(|source| StoreError::io(dir, source))?;
        let lock = Arc::new(DirLock::take(dir)?);
        match Format::read(dir)? {
            Some(format) if format.ready => DiskStore::recover(dir, address, lock, format),
            _ => DiskStore::create(dir, address, lock),
        }
    }

    fn create(dir: &Path, address: &str, lock: Arc<DirLock>) -> Result<(DiskStore, Recovered), StoreError> {
        let mut format = Format { cluster: None, ready: false };
        format.write(dir)?;
        let log = dir.join(segment::DIR);
        let anew = || -> std::io::Result<Identity> {
            // What an interrupted creation left was never acted upon.
            match std::fs::remove_dir_all(&log) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => std::fs::create_dir(&log)?,
            }
            Ok(Identity { id: segment::random()?.max(1), address: address.to_owned() })
        };
        let identity = anew().map_err(|source| StoreError::io(&log, source))?;
        let recovered = Recovered {
            identity,
            founding: None,
            hard_state: HardState::default(),
            snapshot: None,
            entries: Vec::new(),
        };
        let watermark = Watermark::create(dir)?;
        let opened = Opened { recovered: &recovered, saved: None, file: 1, frame: 1, watermark, format };
        let mut store = DiskStore::begin(dir, lock, opened)?;
        format.ready = true;
        format.write(dir)?;
        sync_dir(dir).map_err(|source| StoreError::io(dir, source))?;
        store.format = format;
        Ok((store, recovered))
    }

    /// Reads and checks everything before anything is changed.
    fn recover(
        dir: &Path,
        address: &str,
        lock: Arc<DirLock>,
        format: Format,
    ) -> Result<(DiskStore, Recovered), StoreError> {
        let (numbers, unfinished) = list(dir)?;
        let Replayed { identity, founding, hard_state, snapshot: saved, entries, last_frame } =
            replay(&numbers, |number| read_file(dir, number))?.map_err(|unusable| refuse(dir, unusable))?;
        let gone = |what: &str| StoreError::damaged(dir, format!("the {what} in its log/ is gone"));
        let identity = identity.ok_or_else(|| gone("identity"))?;
        let hard_state = hard_state.ok_or_else(|| gone("promises"))?;
        if identity.address != address {
            return Err(StoreError::OtherReplica {
                dir: dir.to_owned(),
                theirs: identity.address,
                mine: address.to_owned(),
            });
        }
        // FORMAT may lag by the crash between the two writes.
        if format.cluster.is_some() && format.cluster != founding.as_ref().map(cluster_id) {
            return Err(StoreError::damaged(dir, "its log/ belongs to another group than its FORMAT file"));
        }
        let snapshots = Snapshots::of(dir, Arc::clone(&lock));
        let snapshot = saved.as_ref().map(|saved| snapshots.read(saved)).transpose()?;
        let base = saved.as_ref().map_or(Viewstamp::ZERO, |saved| saved.meta.stamp);
        let last = entries.last().map_or(base, |entry| entry.stamp);
        let mark = Mark { hard_state, last, frame: last_frame };
        let watermark = Watermark::check(dir, &mark)?;
        if let Some(missing) = Progress::read(dir)?.and_then(|noted| noted.missing_in(&mark)) {
            return Err(StoreError::damaged(dir, format!("log/ is not what its PROGRESS says: {missing}")));
        }
        let recovered = Recovered { identity, founding, hard_state, snapshot, entries };
        let file = numbers.last().map_or(1, |last| last + 1);
        let opened = Opened { recovered: &recovered, saved, file, frame: last_frame + 1, watermark, format };
        let store = DiskStore::begin(dir, lock, opened)?;
        store.tidy(&numbers, &unfinished)?;
        Ok((store, recovered))
    }

    /// Writes all that was recovered into a file of its own. What was read may have been in the page cache only, or may end
    /// in what a crash tore: nothing is believed to be on disk but what was written and synced by this process.
    fn begin(dir: &Path, lock: Arc<DirLock>, opened: Opened<'_>) -> Result<DiskStore, StoreError> {
        let Opened { recovered, saved, file, frame, watermark, format } = opened;
        let base = saved.as_ref().map_or(Viewstamp::ZERO, |saved| saved.meta.stamp);
        let spans = Spans::of(base, &recovered.entries);
        let hard_state = recovered.hard_state;
        let mut head = Frame::default();
        head.add(&Item::Whole);
        add_base(&mut head, &recovered.identity, recovered.founding.as_ref(), hard_state, saved.as_ref());
        let mut frames = vec![head];
        for run in runs(&recovered.entries) {
            let mut frame = Frame::default();
            frame.add_entries(run);
            frames.push(frame);
        }
        let last_frame = frame + frames.len() as u64 - 1;
        let mark = Mark { hard_state, last: spans.last(), frame: last_frame };
        let segment = Segment::create(dir, file, frame, &frames)
            .map_err(|source| StoreError::io(&segment::path(dir, file), source))?;
        Ok(DiskStore {
            dir: dir.to_owned(),
            segment,
            number: file,
            last_frame,
            older: VecDeque::new(),
            reaches: mark.last.seq,
            identity: recovered.identity.clone(),
            founding: recovered.founding.clone(),
            generation: saved.as_ref().map_or(0, |saved| saved.generation),
            snapshot: saved,
            spans,
            watermark,
            progress: Progress::open(dir, mark)?,
            mark,
            superseded: Vec::new(),
            snapshots: Snapshots::of(dir, Arc::clone(&lock)),
            format,
            _lock: lock,
        })
    }

    /// Removes what is superfluous now that the directory was accepted.
    fn tidy(&self, numbers: &[u64], unfinished: &[PathBuf]) -> Result<(), StoreError> {
        let read = numbers.iter().map(|number| segment::path(&self.dir, *number));
        for path in read.chain(unfinished.iter().cloned()) {
            std::fs::remove_file(&path).map_err(|source| StoreError::io(&path, source))?;
        }
        self.snapshots.remove_others(self.snapshot.as_ref().map(|saved| saved.generation))
    }

    /// Puts a frame on the disk, and removes what it makes superfluous.
    fn commit(&mut self, frame: &Frame) -> Result<(), StoreError> {
        let number = self.last_frame + 1;
        self.segment.append(number, frame).map_err(|source| self.failed(self.segment.path(), &source))?;
        self.last_frame = number;
        self.mark.frame = number;
        self.reaches = self.reaches.max(self.spans.last().seq);
        for generation in std::mem::take(&mut self.superseded) {
            self.snapshots.remove(generation);
        }
        if self.segment.is_full() {
            self.begin_segment()?;
        }
        self.drop_older();
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), StoreError> {
        let mut base = Frame::default();
        base.add(&Item::Continues(self.spans.last().seq));
        add_base(
            &mut base,
            &self.identity,
            self.founding.as_ref(),
            self.mark.hard_state,
            self.snapshot.as_ref(),
        );
        let (number, frame) = (self.number + 1, self.last_frame + 1);
        let path = segment::path(&self.dir, number);
        self.segment = Segment::create(&self.dir, number, frame, &[base])
            .map_err(|source| self.failed(&path, &source))?;
        self.older.push_back((self.number, self.reaches));
        (self.number, self.last_frame) = (number, frame);
        self.mark.frame = frame;
        Ok(())
    }

    /// Removes the files all of whose entries the snapshot covers, the oldest first.
    fn drop_older(&mut self) {
        let covered = self.snapshot.as_ref().map_or(0, |saved| saved.meta.stamp.seq);
        while let Some((number, _)) = self.older.front().copied().filter(|(_, reaches)| *reaches <= covered) {
            let path = segment::path(&self.dir, number);
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != ErrorKind::NotFound
            {
                // Later ones stay, too: a log with a gap would be taken for damaged.
                tracing::warn!("an old part of the log cannot be removed yet: {}: {error}", path.display());
                return;
            }
            self.older.pop_front();
        }
    }

    fn failed(&self, path: &Path, source: &std::io::Error) -> StoreError {
        StoreError::Write { dir: self.dir.clone(), what: format!("{}: {source}", path.display()) }
    }

    /// Puts the entries and promises of a group on the disk, keeping watermark and progress at or below what is there.
    fn commit_log(&mut self, frame: &mut Frame, lowest: &mut Viewstamp) -> Result<(), StoreError> {
        self.mark.last = self.spans.last();
        let lowest = std::mem::replace(lowest, self.mark.last).min(self.mark.last);
        self.watermark.lower(lowest)?;
        self.progress.lower(lowest)?;
        self.commit(&std::mem::take(frame))?;
        self.progress.note(self.mark)
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Puts the change of snapshot into `frame`.
    fn switch_snapshot(&mut self, frame: &mut Frame, saved: SavedSnapshot, alone: bool) {
        self.spans.cover(saved.meta.stamp, alone);
        frame.add(&if alone { Item::SnapshotAlone(saved.clone()) } else { Item::Snapshot(saved.clone()) });
        self.superseded.extend(self.snapshot.replace(saved).map(|old| old.generation));
    }

    fn take(&mut self, frame: &mut Frame, write: LogWrite) -> Result<(), StoreError> {
        if let Some(hard_state) = write.hard_state {
            self.mark.hard_state = hard_state;
            frame.add(&Item::HardState(hard_state));
        }
        if let Some((snapshot, alone)) = &write.install {
            let generation = self.next_generation();
            let saved = self.snapshots.write(generation, snapshot)?;
            self.switch_snapshot(frame, saved, *alone);
        }
        if let Some(from) = write.truncate_from {
            self.spans.cut_from(from);
            frame.add(&Item::CutFrom(from));
        }
        if !write.append.is_empty() {
            self.spans.append(&write.append);
            frame.add_entries(&write.append);
        }
        Ok(())
    }
}

/// What a new file of a directory that is opened says.
struct Opened<'a> {
    recovered: &'a Recovered,
    saved: Option<SavedSnapshot>,
    /// Numbers of the file and of its first frame.
    file: u64,
    frame: u64,
    watermark: Watermark,
    format: Format,
}

/// Every file begins with what is not in the log's entries, so that the files before it can go.
fn add_base(
    frame: &mut Frame,
    identity: &Identity,
    founding: Option<&Membership>,
    hard_state: HardState,
    snapshot: Option<&SavedSnapshot>,
) {
    frame.add(&Item::Identity(identity.clone()));
    if let Some(founding) = founding {
        frame.add(&Item::Founding(founding.clone()));
    }
    frame.add(&Item::HardState(hard_state));
    if let Some(snapshot) = snapshot {
        frame.add(&Item::Snapshot(snapshot.clone()));
    }
}

/// The entries in runs of a frame each.
fn runs(entries: &[Entry]) -> Vec<&[Entry]> {
    let (mut runs, mut rest) = (Vec::new(), entries);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|entry| {
            bytes += entry.size_bytes();
            bytes <= FRAME_BYTES
        });
        let (run, after) = rest.split_at(fits.count().max(1));
        runs.push(run);
        rest = after;
    }
    runs
}

fn list(dir: &Path) -> Result<(Vec<u64>, Vec<PathBuf>), StoreError> {
    match segment::list(dir) {
        Ok((numbers, _)) if numbers.is_empty() => Err(StoreError::damaged(dir, "its log/ has no files")),
        Ok(found) => Ok(found),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(StoreError::damaged(dir, "its log/ is gone"))
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(StoreError::damaged(dir, error.to_string()))
        }
        Err(source) => Err(StoreError::io(&dir.join(segment::DIR), source)),
    }
}

fn read_file(dir: &Path, number: u64) -> Result<Bytes, StoreError> {
    let path = segment::path(dir, number);
    std::fs::read(&path).map(Bytes::from).map_err(|source| StoreError::io(&path, source))
}

fn refuse(dir: &Path, why: Unusable) -> StoreError {
    match why {
        Unusable::Damaged(what) => StoreError::damaged(dir, what),
        Unusable::Version(found) => StoreError::Version { dir: dir.to_owned(), found },
    }
}

impl Store for DiskStore {
    fn write(&mut self, batches: Vec<LogWrite>) -> Result<(), StoreError> {
        let (mut frame, mut lowest) = (Frame::default(), self.spans.last());
        for write in batches {
            self.take(&mut frame, write)?;
            lowest = lowest.min(self.spans.last());
            if frame.items().len() >= FRAME_BYTES {
                self.commit_log(&mut frame, &mut lowest)?;
            }
        }
        if !frame.items().is_empty() {
            self.commit_log(&mut frame, &mut lowest)?;
        }
        Ok(())
    }

    fn form(&mut self, founding: &Membership) -> Result<(), StoreError> {
        self.founding = Some(founding.clone());
        let mut frame = Frame::default();
        frame.add(&Item::Founding(founding.clone()));
        self.commit(&frame)?;
        self.format.cluster = Some(cluster_id(founding));
        self.format.write(&self.dir)
    }

    fn save_snapshot(&mut self, snapshot: Snapshot) -> SaveSnapshot {
        let (snapshots, generation) = (self.snapshots.clone(), self.next_generation());
        Box::new(move || snapshots.write(generation, &snapshot))
    }

    fn snapshot_saved(&mut self, saved: SavedSnapshot) -> Result<(), StoreError> {
        if self.snapshot.as_ref().is_some_and(|current| current.meta.stamp.seq >= saved.meta.stamp.seq) {
            // One received from the master overtook it.
            self.snapshots.remove(saved.generation);
            return Ok(());
        }
        let mut frame = Frame::default();
        self.switch_snapshot(&mut frame, saved, false);
        self.commit(&frame)
    }

    fn snapshot_piece(
        &mut self,
        stamp: Option<Viewstamp>,
        offset: u64,
    ) -> Result<Option<SnapshotPiece>, StoreError> {
        let Some(saved) = &self.snapshot else { return Ok(None) };
        let offset = if stamp == Some(saved.meta.stamp) { offset.min(saved.len) } else { 0 };
        let data = if saved.len == 0 {
            Bytes::new()
        } else {
            let index = (offset / CHUNK_BYTES as u64).min(chunk_count(saved.len) - 1);
            let chunk = self.snapshots.chunk(saved, index)?;
            let start = usize::try_from(offset - index * CHUNK_BYTES as u64).expect("within the piece");
            chunk.slice(start.min(chunk.len())..)
        };
        let done = offset + data.len() as u64 == saved.len;
        Ok(Some(SnapshotPiece { meta: saved.meta.clone(), offset, data, done }))
    }

    fn mark(&mut self) -> Result<(), StoreError> {
        self.watermark.raise(self.mark)
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.watermark.write_now(self.mark)
    }
}
