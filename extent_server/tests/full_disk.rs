//! A disk that really fills up: a small file system in memory, which takes the right to mount one.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use extent_server::{
    EmbeddedStore, ExtentClient, ExtentError, ExtentOptions, Op, Store, StoreOptions, serve,
};
use rpc::ServerOptions;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// Unmounts when dropped.
struct Mounted(TempDir);

impl Mounted {
    fn new(size: &str) -> Option<Mounted> {
        let dir = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Mounted(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

async fn fill(client: &ExtentClient, object: u64) -> Result<(), ExtentError> {
    let data = Bytes::from(vec![object as u8; MIB]);
    let boot = client.write(1, object, vec![(0, MIB as u32)], data).await?;
    let key = Bytes::copy_from_slice(&object.to_be_bytes());
    let value = Bytes::from(vec![object as u8; 4096]);
    client.commit(1, vec![Op::Put { key, value }], vec![(object, boot)]).await
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let Some(disk) = Mounted::new("96m") else {
        eprintln!("not allowed to mount a file system: nothing was tested");
        return;
    };
    let data = disk.path().join("data");
    let store = Arc::new(EmbeddedStore::open(&data, &StoreOptions::default()).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kept = runtime.block_on(async {
        let server = serve(store.clone(), "127.0.0.1:0", ServerOptions::default()).await.unwrap();
        let client = ExtentClient::connect(server.local_addr(), ExtentOptions::default()).await.unwrap();
        let before = client.statfs().await.unwrap();
        let mut filled = 0;
        let refused = loop {
            match fill(&client, filled + 1).await {
                Ok(()) => filled += 1,
                Err(e) => break e,
            }
        };
        assert_eq!(refused, ExtentError::NoSpace);
        assert!(filled as usize * MIB > 50 * MIB, "most of it was used: {filled} MiB");
        let full = client.statfs().await.unwrap();
        assert!(full.available < 2 * MIB as u64 && full.total == before.total, "{full:?}");
        // All that was acknowledged is there, and what matters still works.
        for object in 1..=filled {
            let found = client.read(object, vec![(0, MIB as u32)]).await.unwrap();
            assert!(found.iter().all(|byte| *byte == object as u8), "{object}");
        }
        client.fence(9).await.unwrap();
        for object in 1..=10u64 {
            let key = Bytes::copy_from_slice(&object.to_be_bytes());
            client.commit(1, vec![Op::Delete { key }, Op::Remove { object }], vec![]).await.unwrap();
        }
        for object in 1..=5 {
            fill(&client, object).await.unwrap();
        }
        assert_eq!(client.status().await.unwrap().failed, None);
        server.shutdown().await;
        filled - 5
    });
    drop(runtime);
    drop(store);
    let store = EmbeddedStore::open(&data, &StoreOptions::default()).unwrap();
    let report = store.verify().unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.objects, report.keys), (kept, kept));
}
