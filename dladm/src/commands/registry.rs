//! `export` and `import`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};

use rustix::fs::MemfdFlags;

use super::Connect;
use crate::failure::Failure;
use crate::{cli, output};

/// Writes the persistent registry to the standard output.
pub fn export(connect: impl Connect) -> Result<(), Failure> {
    let registry = connect()?.export()?;
    output::print(&registry)
}

/// Brings in a registry that [`export`] wrote.
pub fn import(args: &cli::Import, connect: impl Connect) -> Result<(), Failure> {
    let cannot_read = || Failure::system("cannot read the file");
    let file = open(&args.file).map_err(cannot_read())?;
    connect()?.import(&file)?;
    Ok(())
}

/// The file to hand over: the daemon takes only regular ones, so all else is copied first.
fn open(name: &OsStr) -> io::Result<File> {
    if name == "-" {
        return spool(io::stdin());
    }
    let file = File::open(name)?;
    if file.metadata()?.is_file() { Ok(file) } else { spool(file) }
}

fn spool(mut source: impl Read) -> io::Result<File> {
    let mut spooled = File::from(rustix::fs::memfd_create("dladm-import", MemfdFlags::CLOEXEC)?);
    io::copy(&mut source, &mut spooled)?;
    spooled.rewind()?;
    Ok(spooled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_copied_into_one_that_stands_at_its_beginning() {
        let mut file = spool(&b"registry"[..]).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert!(file.metadata().unwrap().is_file());
        assert_eq!(text, "registry");
    }
}
