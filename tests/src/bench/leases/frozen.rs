//! A client is frozen (SIGSTOP) while it holds a lock that another wants.

use super::LeasesError;
use crate::cluster::Cluster;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// No measurement takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Freezes the first mount, which has just written a file and not synced it; the seconds until the second one has written
/// the same file and synced it. Afterwards the first works again.
pub fn measure(cluster: &mut Cluster, trial: usize) -> Result<f64, LeasesError> {
    let name = format!("frozen-{trial}");
    let ours = cluster.mountpoint(0).join(&name);
    let theirs = cluster.mountpoint(1).join(&name);
    fs::write(&theirs, "0").map_err(LeasesError::call("making a file"))?;
    fs::write(&ours, "1").map_err(LeasesError::call("writing it through another mount"))?;
    let holder = cluster.mount(0);
    holder.signal(libc::SIGSTOP);
    let began = Instant::now();
    let (done, answer) = channel();
    std::thread::spawn(move || done.send(write_synced(&theirs)));
    let written = answer.recv_timeout(PATIENCE);
    let seconds = began.elapsed().as_secs_f64();
    holder.signal(libc::SIGCONT);
    written
        .map_err(|_| LeasesError::Slow("writing what a frozen client holds".into()))?
        .map_err(LeasesError::call("writing what a frozen client holds"))?;
    // A client that lost its session must be back before it is frozen again, and may first say that it lost something.
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = write_synced(&ours) {
        if Instant::now() > deadline {
            return Err(LeasesError::call("writing through the mount that was frozen")(error));
        }
    }
    Ok(seconds)
}

pub(super) fn write_synced(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(b"2")?;
    file.sync_all()
}
