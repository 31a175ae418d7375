//! Reads the files of certificates and keys, and looks at the permissions of a key.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// No file of certificates is longer; a path such as /dev/zero must not exhaust the memory.
const MAX_BYTES: u64 = 16 << 20;

/// A file as it was read.
pub(super) struct Contents {
    pub(super) bytes: Vec<u8>,
    /// The permission bits if others than the owner may read the file.
    pub(super) exposed: Option<u32>,
}

pub(super) fn read(path: &Path) -> io::Result<Contents> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Contents { bytes, exposed: (mode & 0o044 != 0).then_some(mode) })
}
