//! Reads the files of certificates and keys, and looks at the permissions of a key.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::libc;

/// No file of certificates is longer; a path such as /dev/zero must not exhaust the memory.
const MAX_BYTES: u64 = 16 << 20;

/// A file as it was read.
pub(super) struct Contents {
    pub(super) bytes: Vec<u8>,
    /// The permission bits if others than the owner may read or write the file.
    pub(super) exposed: Option<u32>,
}

/// Reads a regular file. Anything else is refused before it is read: a FIFO without a writer would block the supervisor.
pub(super) fn read(path: &Path) -> io::Result<Contents> {
    let mut options = File::options();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Contents { bytes, exposed: (mode & 0o066 != 0).then_some(mode) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_is_refused_and_blocks_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = read(&path).err().expect("it has no content");
        assert_eq!(error.to_string(), "it is not a regular file");
    }

    #[test]
    fn a_key_that_others_can_read_or_replace_is_exposed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, is_exposed) in [(0o600, false), (0o400, false), (0o640, true), (0o602, true)] {
            file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(file.path()).unwrap().exposed, is_exposed.then_some(mode));
        }
    }
}
