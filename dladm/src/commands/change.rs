//! `rename-link` and `delete-phys`.

use std::ffi::OsString;

use dlmgmt_proto::door::{DeletePhys, Rename, RenameItem};

use super::{Connect, link_ref, text};
use crate::cli;
use crate::failure::Failure;

/// Renames links, all of them or none.
pub fn rename(args: &cli::RenameLink, connect: impl Connect) -> Result<(), Failure> {
    let (pairs, []) = args.operands.as_chunks::<2>() else {
        let why = "every LINK needs a NEW-NAME: the number of operands is odd";
        return Err(Failure::Usage(why.to_owned()));
    };
    let items = pairs.iter().map(item).collect::<Result<_, _>>()?;
    connect()?.call(&Rename { items })?;
    Ok(())
}

fn item([link, to]: &[OsString; 2]) -> Result<RenameItem, Failure> {
    Ok(RenameItem { link: link_ref(link)?, to: text(to)?.to_owned() })
}

/// Forgets a physical link whose hardware is gone.
pub fn delete_phys(args: &cli::DeletePhys, connect: impl Connect) -> Result<(), Failure> {
    let link = link_ref(&args.link)?;
    connect()?.call(&DeletePhys { link })?;
    Ok(())
}
