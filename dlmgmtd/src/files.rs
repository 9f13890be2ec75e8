//! Files that travel to and from callers as descriptors.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use dlmgmt_proto::{Error, ErrorCode, Result};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::auth::{Action, authorise};
use crate::engine::{Caller, going_down};
use crate::seats::is_host_root;

/// Longest file that `import` takes, in bytes.
const IMPORT_MAX: u64 = 64 * 1024 * 1024;

/// Files that are read at one time for `import`, those of root in zone `global` not counted.
const READS_MAX: usize = 4;

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

/// Reads what is to be imported.
pub struct Imports {
    room: Semaphore,
}

impl Default for Imports {
    fn default() -> Self {
        Self { room: Semaphore::new(READS_MAX) }
    }
}

impl Imports {
    /// The text of a file, for a caller who may import it: nobody else makes the daemon read.
    pub async fn read(&self, caller: &Caller, fd: OwnedFd) -> Result<Vec<u8>> {
        authorise(caller, Action::Import)?;
        let _permit = self.permit(caller)?;
        let reading = tokio::task::spawn_blocking(move || read(fd));
        reading.await.unwrap_or_else(|_| Err(going_down()))
    }

    /// Reading may hang, on a file system that its caller serves: few callers may try it at once.
    fn permit(&self, caller: &Caller) -> Result<Option<SemaphorePermit<'_>>> {
        if is_host_root(caller) {
            return Ok(None);
        }
        let permit = self.room.try_acquire().map(Some);
        permit.map_err(|_| Error::new(ErrorCode::Again, "other imports are under way"))
    }
}

/// All of a regular file, from its beginning wherever it is opened.
fn read(fd: OwnedFd) -> Result<Vec<u8>> {
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
