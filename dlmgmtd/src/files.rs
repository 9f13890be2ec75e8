//! Files that travel to and from callers as descriptors.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use dlmgmt_proto::{Error, ErrorCode, Result};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// Longest file that `import` takes, in bytes.
const IMPORT_MAX: u64 = 64 * 1024 * 1024;

/// A file of this text that nobody can change any more, opened at its beginning.
pub fn sealed(text: &[u8]) -> Result<OwnedFd> {
    let failed = |why: io::Error| {
        Error::kernel(
            why.raw_os_error().unwrap_or_default(),
            format!("no file for the export: {why}"),
        )
    };
    write_sealed(text).map_err(failed)
}

fn write_sealed(text: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("dlmgmt-export", flags)?);
    file.write_all(text)?;
    file.rewind()?;
    fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file.into())
}

/// All of a regular file, from its beginning wherever it is opened.
pub fn read(fd: OwnedFd) -> Result<Vec<u8>> {
    let file = File::from(fd);
    let unreadable = |why: io::Error| invalid(format!("the file cannot be read: {why}"));
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(invalid("`import` takes a regular file"));
    }
    let mut text = Vec::new();
    // One byte more than allowed is asked for, since the file may grow while it is read.
    let mut from_start = FromStart { file, at: 0 }.take(IMPORT_MAX + 1);
    from_start.read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > IMPORT_MAX {
        return Err(invalid(format!("`import` takes at most {IMPORT_MAX} bytes")));
    }
    Ok(text)
}

/// Reads a file without moving its position, which the client shares.
struct FromStart {
    file: File,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorCode::Invalid, why)
}
