//! Asking a mount's process to unmount, so that everything is flushed before the answer comes.
//!
//! The process listens on a Unix socket named after its mount's device number, so a dead process is told from a busy one
//! at once and without touching the mount. The kernel gives the number to a later mount as soon as it is free, when the
//! process of the earlier one may still be there (flushing, or frozen): the later one puts its socket over the earlier
//! one's. A file whose process is gone does no harm, and nobody removes it, since it may have become another's.
//!
//! Only root and the process's own user are listened to.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::fuse::mountinfo::MountEntry;

/// Requests that may wait to be looked at.
const QUEUE_MAX: usize = 8;
/// The longest request line.
const LINE_MAX: u64 = 256;

/// How an unmount ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmounted {
    /// Flushed, unmounted, the process is about to end.
    Clean,
    /// Flushed and taken out of the directory tree; the process ends when the last user of the mount lets go.
    Busy,
}

/// An unmount somebody asked for.
#[derive(Debug)]
pub struct UnmountRequest {
    reply: oneshot::Sender<Result<Unmounted, String>>,
    delivered: oneshot::Receiver<()>,
}

impl UnmountRequest {
    /// Answers, and waits until the answer is on its way: the process may end afterwards. An error means that it is
    /// still mounted, or that something was lost.
    pub async fn answer(self, result: Result<Unmounted, String>) {
        if self.reply.send(result).is_ok() {
            let _ = self.delivered.await; // either way there is nobody to tell any more
        }
    }
}

/// Why a mount's process could not be asked, or would not.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens: the process is dead.
    #[error("no process serves the mount")]
    Dead,
    /// It does not answer.
    #[error("the mount's process did not answer within {0:?}")]
    Silent(Duration),
    /// It tried and failed.
    #[error("{0}")]
    Refused(String),
    /// The connection failed.
    #[error("cannot talk to the mount's process: {0}")]
    Io(#[from] io::Error),
}

/// Where the processes of a user's mounts listen.
fn directory(uid: u32) -> PathBuf {
    match uid {
        0 => PathBuf::from("/run/yfs"),
        uid => PathBuf::from(format!("/run/user/{uid}/yfs")),
    }
}

fn socket(uid: u32, minor: u32) -> PathBuf {
    directory(uid).join(format!("mount-{minor}"))
}

fn own_uid() -> u32 {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() }
}

/// Listens for requests about the mount with this device number, for as long as the receiver lives.
///
/// # Errors
/// When there is no place for the socket.
pub fn listen(minor: u32) -> io::Result<mpsc::Receiver<UnmountRequest>> {
    let path = socket(own_uid(), minor);
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    std::fs::create_dir_all(directory(own_uid())).map_err(named)?;
    // Made under a name of its own, then put into place, over that of an earlier mount.
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let _ = std::fs::remove_file(&new); // left by a process that had our pid
    let listener = tokio::net::UnixListener::bind(&new).map_err(named)?;
    std::fs::rename(&new, &path).map_err(named)?;
    let (send, receive) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = send.closed() => return,
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    tokio::spawn(serve(stream, send.clone()));
                },
            }
        }
    });
    Ok(receive)
}

async fn serve(mut stream: tokio::net::UnixStream, requests: mpsc::Sender<UnmountRequest>) {
    let (_delivered, delivered) = oneshot::channel();
    let answer = match handle(&mut stream, &requests, delivered).await {
        Ok(Unmounted::Clean) => "ok\n".to_owned(),
        Ok(Unmounted::Busy) => "busy\n".to_owned(),
        Err(why) => format!("error {}\n", why.replace('\n', " ")),
    };
    if let Err(e) = stream.write_all(answer.as_bytes()).await {
        tracing::debug!("who asked for the unmount has gone: {e}");
    }
}

async fn handle(
    stream: &mut tokio::net::UnixStream,
    requests: &mpsc::Sender<UnmountRequest>,
    delivered: oneshot::Receiver<()>,
) -> Result<Unmounted, String> {
    let peer = stream.peer_cred().map_err(|e| e.to_string())?.uid();
    if peer != 0 && peer != own_uid() {
        return Err(format!("user {peer} may not unmount this"));
    }
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(stream.take(LINE_MAX));
    reader.read_line(&mut line).await.map_err(|e| e.to_string())?;
    if line.trim_end() != "unmount" {
        return Err(format!("unknown request {:?}", line.trim_end()));
    }
    let (reply, answer) = oneshot::channel();
    requests.send(UnmountRequest { reply, delivered }).await.map_err(|_| "it is ending already")?;
    answer.await.map_err(|_| "the process ended before it was done".to_owned())?
}

/// Asks the process of a mount to flush and unmount, and waits for its answer.
///
/// # Errors
/// [`ControlError::Dead`] when there is no process, others when it cannot or will not.
pub fn request_unmount(mount: &MountEntry, patience: Duration) -> Result<Unmounted, ControlError> {
    let mut stream = match UnixStream::connect(socket(mount.owner, mount.minor)) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            return Err(ControlError::Dead);
        }
        Err(e) => return Err(e.into()),
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(b"unmount\n")?;
    let mut answer = String::new();
    match BufReader::new(stream).read_line(&mut answer) {
        Ok(_) => {}
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            return Err(ControlError::Silent(patience));
        }
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(ControlError::Dead),
        Err(e) => return Err(e.into()),
    }
    match answer.trim_end() {
        "ok" => Ok(Unmounted::Clean),
        "busy" => Ok(Unmounted::Busy),
        "" => Err(ControlError::Dead),
        other => Err(ControlError::Refused(other.strip_prefix("error ").unwrap_or(other).to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers no real mount of a test machine has.
    fn unused_minor(n: u32) -> u32 {
        4_000_000 + std::process::id() % 100_000 * 10 + n
    }

    async fn ask(minor: u32, patience: Duration) -> Result<Unmounted, ControlError> {
        let mount = MountEntry {
            minor,
            owner: own_uid(),
            mountpoint: "/nowhere".into(),
            kind: "fuse.yfs".into(),
            source: "yfs".into(),
        };
        tokio::task::spawn_blocking(move || request_unmount(&mount, patience)).await.unwrap()
    }

    /// No minor number of a test stays behind in the directory.
    struct Cleanup(u32);

    impl Drop for Cleanup {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(socket(own_uid(), self.0));
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn answers_are_handed_on() {
        let minor = unused_minor(0);
        let _cleanup = Cleanup(minor);
        let mut requests = listen(minor).unwrap();
        for (answer, expected) in [
            (Ok(Unmounted::Clean), "Ok(Clean)"),
            (Ok(Unmounted::Busy), "Ok(Busy)"),
            (Err("flush failed".to_owned()), "Err(Refused(\"flush failed\"))"),
        ] {
            let asked = tokio::spawn(ask(minor, LONG));
            requests.recv().await.unwrap().answer(answer).await;
            assert_eq!(format!("{:?}", asked.await.unwrap()), expected);
        }
    }

    #[tokio::test]
    async fn a_dead_process_is_told_from_a_silent_one() {
        let minor = unused_minor(1);
        let _cleanup = Cleanup(minor);
        assert!(matches!(ask(minor, LONG).await, Err(ControlError::Dead)));
        let mut requests = listen(minor).unwrap();
        assert!(matches!(ask(minor, Duration::from_millis(50)).await, Err(ControlError::Silent(_))));
        drop(requests.recv().await);
        let asked = tokio::spawn(ask(minor, LONG));
        drop(requests.recv().await); // ends without an answer
        assert!(matches!(asked.await.unwrap(), Err(ControlError::Refused(_))));
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        let minor = unused_minor(2);
        let _cleanup = Cleanup(minor);
        let mut requests = listen(minor).unwrap();
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = UnixStream::connect(socket(own_uid(), minor)).unwrap();
            stream.write_all(&[0xff; 4096]).ok();
            stream.shutdown(std::net::Shutdown::Write).ok();
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).ok();
            answer
        });
        let answer = asked.await.unwrap();
        assert!(answer.is_empty() || answer.starts_with("error"), "{answer}");
        assert!(requests.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_later_mount_takes_the_place_of_an_earlier_one() {
        let minor = unused_minor(3);
        let _cleanup = Cleanup(minor);
        let mut earlier = listen(minor).unwrap();
        let mut later = listen(minor).unwrap();
        let asked = tokio::spawn(ask(minor, LONG));
        later.recv().await.unwrap().answer(Ok(Unmounted::Clean)).await;
        assert_eq!(asked.await.unwrap().unwrap(), Unmounted::Clean);
        assert!(earlier.try_recv().is_err());
    }
}
