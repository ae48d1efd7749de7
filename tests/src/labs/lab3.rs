//! Lab 3: read and write files, and find them through the second mount at once.

use super::files::How;
use super::{Lab, Result, violated};
use std::path::Path;

pub(super) fn run(lab: &mut Lab, dir1: &Path, dir2: &Path) -> Result<()> {
    let (name1, name2) = (format!("f1-{}", lab.tag), format!("f2-{}", lab.tag));
    let (file1, file2) = (dir1.join(&name1), dir1.join(&name2));
    let mut first = lab.rng.bytes(600);
    let mut second = lab.rng.bytes(4111);

    lab.step("Write and read one file:", |lab| {
        lab.write(&file1, How::New, &first)?;
        lab.expect_content(&file1, &first)
    })?;
    lab.step("Write and read a second file:", |lab| {
        lab.write(&file2, How::New, &second)?;
        lab.expect_content(&file2, &second)?;
        lab.expect_content(&file1, &first)
    })?;
    lab.step("Overwrite an existing file:", |lab| {
        first = lab.rng.bytes(275);
        lab.write(&file1, How::Truncate, &first)?;
        lab.expect_content(&file1, &first)
    })?;
    lab.step("Append to an existing file:", |lab| {
        first = lab.rng.bytes(8192);
        lab.write(&file1, How::Truncate, &first)?;
        let more = lab.rng.bytes(7007);
        lab.write(&file1, How::Append, &more)?;
        first.extend(more);
        lab.expect_content(&file1, &first)
    })?;
    lab.step("Write into the middle of an existing file:", |lab| {
        write_over(lab, &file1, &mut first, 190, 531)?;
        lab.expect_content(&file1, &first)
    })?;
    lab.step("Write beyond the end of an existing file:", |lab| {
        let more = lab.rng.bytes(1000);
        lab.write_at(&file1, &more, 65536)?;
        first.resize(65536, 0);
        first.extend(more);
        lab.expect_content(&file1, &first)
    })?;
    lab.step("Check that one cannot open non-existant file:", |lab| {
        lab.expect_absent(&dir1.join(format!("z-{}", lab.tag)))
    })?;
    lab.step("Check directory listing:", |lab| expect_listed(lab, dir1, [&name1, &name2]))?;
    lab.step("Read files via second server:", |lab| {
        lab.expect_content(&dir2.join(&name1), &first)?;
        lab.expect_content(&dir2.join(&name2), &second)?;
        // And back: what the first mount knew of the file is old now.
        write_over(lab, &dir2.join(&name2), &mut second, 100, 50)?;
        lab.expect_content(&file2, &second)
    })?;
    lab.step("Check directory listing on second server:", |lab| expect_listed(lab, dir2, [&name1, &name2]))?;
    lab.say("Passed all tests")
}

/// Writes `count` bytes at `offset` within `content`, in the file and here.
fn write_over(lab: &mut Lab, path: &Path, content: &mut [u8], offset: usize, count: usize) -> Result<()> {
    let patch = lab.rng.bytes(count);
    lab.write_at(path, &patch, offset as u64)?;
    content[offset..offset + count].copy_from_slice(&patch);
    Ok(())
}

fn expect_listed(lab: &Lab, dir: &Path, names: [&String; 2]) -> Result<()> {
    let found = lab.list(dir)?;
    match names.into_iter().find(|name| !found.contains(*name)) {
        Some(missing) => violated(format!("{}: {missing} is not listed", dir.display())),
        None => Ok(()),
    }
}
