//! The state of all files that count, and what differs between two states.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::relevance::{Scope, is_ignored};

/// Maximum number of directories. A server that is started in `/` must not search the whole machine.
pub const DIRECTORIES: usize = 8192;
/// The times of files are those of the last tick of a clock, which may be this long ago.
const CLOCK_TICK_S: f64 = 0.01;

/// What is watched.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    trees: Vec<(PathBuf, Scope)>,
    files: BTreeSet<PathBuf>,
}

impl Targets {
    /// Adds a directory with all its subdirectories, or a file. Returns whether it is new.
    pub fn add(&mut self, path: PathBuf, scope: Scope) -> bool {
        if !path.is_dir() && path.exists() {
            return self.files.insert(path);
        }
        if self.trees.iter().any(|(known, its_scope)| *known == path && *its_scope >= scope) {
            return false;
        }
        self.trees.push((path, scope));
        // A directory is searched once, with the scope in which it is found first.
        self.trees.sort_by_key(|(_, scope)| std::cmp::Reverse(*scope));
        true
    }
}

/// What counts in one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    scope: Scope,
    names: BTreeSet<OsString>,
}

impl Interest {
    fn of(scope: Scope) -> Self {
        Self { scope, names: BTreeSet::new() }
    }

    /// Whether the directory is watched with its subdirectories.
    pub fn is_tree(&self) -> bool {
        self.scope > Scope::Named
    }

    /// Whether a file of this name counts.
    pub fn includes(&self, name: &OsStr) -> bool {
        self.scope.includes(name) || self.names.contains(name)
    }

    /// Whether a new directory of this name counts.
    pub fn includes_directory(&self, name: &OsStr) -> bool {
        self.is_tree() && !is_ignored(name, |_| false)
    }
}

/// The state of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

impl Stamp {
    /// The time of modification, in seconds since 1970.
    fn modified_at(&self) -> f64 {
        let (seconds, nanos) = self.modified;
        Duration::from_secs(seconds.try_into().unwrap_or(0)).as_secs_f64() + nanos as f64 / 1e9
    }
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        Self {
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
            size: file.size(),
            inode: file.ino(),
        }
    }
}

/// The state of everything that is watched.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// The directories, and what counts in them.
    pub directories: BTreeMap<PathBuf, Interest>,
    /// The files that count.
    pub files: BTreeMap<PathBuf, Stamp>,
    /// Whether a directory that should be watched does not exist.
    pub is_missing_some: bool,
    /// Whether there were more than [`DIRECTORIES`].
    pub is_limited: bool,
    /// The path under which a directory, by device and inode, was found first.
    known: HashMap<(u64, u64), PathBuf>,
}

impl Scan {
    /// Reads the state of the targets. `prepare` is called for each directory before its entries are read.
    pub fn read(targets: &Targets, mut prepare: impl FnMut(&Path)) -> Self {
        let mut scan = Self::default();
        let mut links = Vec::new();
        let mut queue: VecDeque<_> = targets.trees.iter().cloned().collect();
        while let Some((directory, scope)) = queue.pop_front() {
            scan.enter(&directory, scope, &mut queue, &mut links, &mut prepare);
        }
        for file in targets.files.iter().chain(&links) {
            scan.add_file(file, &mut prepare);
        }
        scan
    }

    /// Returns the files that differ, exist only here, or exist only in `new`.
    pub fn changes<'a>(&'a self, new: &'a Self) -> impl Iterator<Item = &'a Path> {
        let differs = |(path, stamp): &(&PathBuf, &Stamp)| self.files.get(*path) != Some(*stamp);
        let gone = self.files.keys().filter(|path| !new.files.contains_key(*path));
        new.files.iter().filter(differs).map(|(path, _)| path).chain(gone).map(PathBuf::as_path)
    }

    /// Returns the files that were modified at this time, in seconds since 1970, or later.
    pub fn modified_since(&self, time: f64) -> impl Iterator<Item = &Path> {
        let is_modified = move |stamp: &Stamp| stamp.modified_at() >= time - CLOCK_TICK_S;
        self.files
            .iter()
            .filter(move |(_, stamp)| is_modified(stamp))
            .map(|(path, _)| path.as_path())
    }

    fn enter(
        &mut self,
        directory: &Path,
        scope: Scope,
        queue: &mut VecDeque<(PathBuf, Scope)>,
        links: &mut Vec<PathBuf>,
        prepare: &mut impl FnMut(&Path),
    ) {
        let Some(is_new) = self.know(directory, scope) else { return };
        if is_new {
            prepare(directory);
        }
        // A directory that cannot be read contains no module that can be imported.
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            let is_candidate = scope.includes(&name);
            if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
                if !is_ignored(&name, |file| path.join(file).exists()) {
                    queue.push_back((path, scope));
                }
            } else if is_candidate && let Ok(file) = fs::metadata(&path) {
                if kind.is_symlink() {
                    // What changes is the file that the link leads to.
                    links.extend(fs::canonicalize(&path));
                }
                self.files.insert(path, Stamp::from(&file));
            }
        }
    }

    /// Records a directory. Returns whether it is new; `None` if it is not to be entered.
    fn know(&mut self, directory: &Path, scope: Scope) -> Option<bool> {
        let found = match fs::metadata(directory) {
            Ok(found) if found.is_dir() => found,
            Ok(_) => return None,
            Err(error) => {
                self.is_missing_some |= error.kind() == ErrorKind::NotFound;
                return None;
            }
        };
        let identity = (found.dev(), found.ino());
        if self.known.contains_key(&identity) {
            return None; // A link, or a directory inside another one that was named, too.
        }
        if self.directories.len() >= DIRECTORIES {
            self.is_limited = true;
            return None;
        }
        self.known.insert(identity, directory.to_owned());
        Some(self.directories.insert(directory.to_owned(), Interest::of(scope)).is_none())
    }

    /// Adds a single file, whether it exists or not.
    fn add_file(&mut self, path: &Path, prepare: &mut impl FnMut(&Path)) {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return };
        let Ok(found) = fs::metadata(directory) else {
            self.is_missing_some = true;
            return;
        };
        let identity = (found.dev(), found.ino());
        let known = self.known.entry(identity).or_insert_with(|| directory.to_owned()).clone();
        let interest = self.directories.entry(known.clone()).or_insert_with(|| {
            prepare(&known);
            Interest::of(Scope::Named)
        });
        interest.names.insert(name.to_owned());
        if let Ok(file) = fs::metadata(path) {
            self.files.insert(known.join(name), Stamp::from(&file));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Site(tempfile::TempDir);

    impl Site {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }

        fn scan(&self, targets: &Targets) -> Vec<String> {
            let scan = Scan::read(targets, |_| {});
            self.names(scan.files.keys().map(PathBuf::as_path))
        }

        fn names<'a>(&self, paths: impl Iterator<Item = &'a Path>) -> Vec<String> {
            let name =
                |path: &Path| path.strip_prefix(self.0.path()).unwrap().display().to_string();
            paths.map(name).collect()
        }

        fn tree(&self, scope: Scope) -> Targets {
            let mut targets = Targets::default();
            targets.add(self.0.path().to_owned(), scope);
            targets
        }
    }

    #[test]
    fn python_files_are_found_in_all_directories_but_ignored_ones() {
        let site = Site::new();
        for name in ["app.py", "shop/views.py", "shop/__pycache__/views.py", ".git/hook.py"] {
            site.write(name, "");
        }
        for name in ["node_modules/x/gyp.py", "env/pyvenv.cfg", "env/lib/a.py", "shop/x.html"] {
            site.write(name, "");
        }
        assert_eq!(site.scan(&site.tree(Scope::Sources)), ["app.py", "shop/views.py"]);
    }

    #[test]
    fn an_edit_a_new_file_and_a_removed_file_are_changes() {
        let site = Site::new();
        let targets = site.tree(Scope::Sources);
        let (edited, removed) = (site.write("edited.py", "1"), site.write("removed.py", "1"));
        site.write("same.py", "1");
        let before = Scan::read(&targets, |_| {});
        assert_eq!(before.changes(&before).count(), 0);
        fs::write(edited, "12").unwrap();
        fs::remove_file(removed).unwrap();
        site.write("new/new.py", "1");
        let after = Scan::read(&targets, |_| {});
        let mut changes = site.names(before.changes(&after));
        changes.sort();
        assert_eq!(changes, ["edited.py", "new/new.py", "removed.py"]);
    }

    #[test]
    fn links_are_followed_and_circles_end() {
        let site = Site::new();
        let (real, elsewhere) = (site.write("real/app.py", ""), Site::new());
        let module = elsewhere.write("module.py", "");
        symlink(site.0.path(), site.0.path().join("real/circle")).unwrap();
        symlink(&module, site.0.path().join("module.py")).unwrap();
        let scan = Scan::read(&site.tree(Scope::Sources), |_| {});
        assert!(scan.files.contains_key(&real) && scan.directories.len() == 3, "{scan:?}");
        let interest = &scan.directories[&fs::canonicalize(elsewhere.0.path()).unwrap()];
        assert!(interest.includes(OsStr::new("module.py")));
        assert!(!interest.includes(OsStr::new("other.py")));
    }

    #[test]
    fn a_single_file_is_watched_in_its_directory_and_may_be_missing() {
        let site = Site::new();
        let mut targets = Targets::default();
        let file = site.write("settings.toml", "");
        site.write("other.toml", "");
        assert!(targets.add(file.clone(), Scope::Everything));
        assert!(!targets.add(file.clone(), Scope::Everything));
        assert_eq!(site.scan(&targets), ["settings.toml"]);
        fs::remove_file(file).unwrap();
        assert_eq!(site.scan(&targets), [""; 0]);
    }

    #[test]
    fn a_directory_of_both_kinds_is_searched_for_all_files() {
        let site = Site::new();
        site.write("templates/base.html", "");
        let mut targets = site.tree(Scope::Sources);
        assert!(targets.add(site.0.path().join("templates"), Scope::Everything));
        assert_eq!(site.scan(&targets), ["templates/base.html"]);
    }

    #[test]
    fn a_directory_that_is_missing_is_noted() {
        let site = Site::new();
        let mut targets = Targets::default();
        targets.add(site.0.path().join("later"), Scope::Sources);
        assert!(Scan::read(&targets, |_| {}).is_missing_some);
        site.write("later/app.py", "");
        assert_eq!(site.scan(&targets), ["later/app.py"]);
    }
}
