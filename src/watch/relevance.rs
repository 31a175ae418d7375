//! Which directories are searched for files, and which files count.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Which files of a directory count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Those with these names: single files, which are listed elsewhere.
    Named,
    /// Also all Python files.
    Sources,
    /// All files, except for those that editors create for a moment.
    Everything,
}

impl Scope {
    /// Whether a file of this name counts.
    pub fn includes(self, name: &OsStr) -> bool {
        match self {
            Self::Named => false,
            Self::Sources => name.as_bytes().ends_with(b".py") && !is_temporary(name),
            Self::Everything => !is_temporary(name),
        }
    }
}

/// Whether a directory of this name, below one that is watched, contains no code of the application. `has_file` says
/// whether a file of this name is in the directory.
pub fn is_ignored(name: &OsStr, has_file: impl FnOnce(&str) -> bool) -> bool {
    const NAMES: [&[u8]; 4] = [b"__pycache__", b"node_modules", b"site-packages", b"dist-packages"];
    let name = name.as_bytes();
    // A virtual environment has this file, whatever its directory is called (PEP 405).
    name.starts_with(b".") || NAMES.contains(&name) || has_file("pyvenv.cfg")
}

/// Whether an editor, or Python, creates files of this name for a moment: hidden files, among them `.x.py.swp` and
/// `.#x.py`; `x.py~`, `#x.py#`, and `4913`, with which Vim tests whether it can create files.
fn is_temporary(name: &OsStr) -> bool {
    const ENDINGS: [&[u8]; 7] = [b"~", b"#", b".swp", b".swx", b".tmp", b".pyc", b"___jb_tmp___"];
    let name = name.as_bytes();
    name.starts_with(b".")
        || name == b"4913"
        || name.ends_with(b"___jb_old___")
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_files_count_but_not_what_editors_create_for_a_moment() {
        let counts = |name: &str| Scope::Sources.includes(OsStr::new(name));
        assert!(counts("app.py") && counts("__init__.py"));
        for name in ["app.pyc", ".app.py.swp", ".#app.py", "#app.py#", "app.py~", "4913", "x.html"]
        {
            assert!(!counts(name), "{name}");
        }
    }

    #[test]
    fn every_file_of_an_extra_directory_counts_but_temporary_ones() {
        let counts = |name: &str| Scope::Everything.includes(OsStr::new(name));
        assert!(counts("base.html") && counts("messages.po") && counts("Makefile"));
        for name in [".base.html.swp", "base.html~", "4913", "base.html___jb_tmp___"] {
            assert!(!counts(name), "{name}");
        }
    }

    #[test]
    fn directories_without_code_of_the_application_are_ignored() {
        let ignores = |name: &str| is_ignored(OsStr::new(name), |_| false);
        for name in ["__pycache__", ".git", "node_modules", ".venv", "site-packages"] {
            assert!(ignores(name), "{name}");
        }
        assert!(!ignores("shop") && !ignores("venv"));
        assert!(is_ignored(OsStr::new("venv"), |file| file == "pyvenv.cfg"));
    }
}
