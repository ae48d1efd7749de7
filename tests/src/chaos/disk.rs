//! The extent server's disk: a small ext4 in a file, or a tmpfs where there are no loop devices.

use super::ChaosError;
use super::command::run;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// It has so many bytes.
const SIZE: u64 = 512 << 20;

/// A mounted disk. It is gone with the mount namespace of the run, its loop device too.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Makes and mounts it below `dir`.
    pub fn make(dir: &Path) -> Result<Disk, ChaosError> {
        let at = dir.join("disk");
        std::fs::create_dir_all(&at).map_err(ChaosError::io("making", at.display()))?;
        let disk = Disk { at };
        match disk.mount_image(&dir.join("disk.img")) {
            Ok(()) => Ok(disk),
            Err(why) => {
                println!("  no loop device ({why}): the extent server's disk is a tmpfs");
                let mut command = Command::new("mount");
                command.args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs"]).arg(&disk.at);
                run(command).map(|()| disk)
            }
        }
    }

    fn mount_image(&self, image: &Path) -> Result<(), ChaosError> {
        let made = File::create(image).and_then(|file| file.set_len(SIZE));
        made.map_err(ChaosError::io("making", image.display()))?;
        let mut command = Command::new("mkfs.ext4");
        command.args(["-q", "-F", "-m", "0"]).arg(image);
        run(command)?;
        let mut command = Command::new("mount");
        command.args(["-o", "loop"]).arg(image).arg(&self.at);
        run(command)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> Result<(), ChaosError> {
        let path = self.ballast();
        let fill = || -> io::Result<()> {
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            for size in [1 << 20, 4096, 1] {
                let block = vec![0xa5; size];
                loop {
                    match file.write(&block) {
                        Ok(_) => {}
                        Err(e) if e.kind() == io::ErrorKind::StorageFull => break,
                        Err(e) => return Err(e),
                    }
                }
            }
            Ok(())
        };
        fill().map_err(ChaosError::io("filling", path.display()))
    }

    /// Makes room again.
    pub fn free(&self) -> Result<(), ChaosError> {
        let path = self.ballast();
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(ChaosError::io("removing", path.display())),
        }
    }
}
