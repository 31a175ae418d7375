//! The directories of files that workers send themselves (`--static`, `--sendfile-root`).

use std::ffi::OsStr;
use std::path::PathBuf;

use arctos_worker::settings::StaticMount;

use super::Privileges;
use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::paths::readable_directory;
use super::reader::{Reader, wrong};

const FORM: &str = "/PATH=DIR, such as /static=/srv/shop/static: a path below the root, without `.` or `..` in it, \
                    and a directory";

/// Reads the mounts. Each path has one directory, which must exist.
pub(super) fn static_mounts(
    reader: &mut Reader<'_>,
    privileges: &Privileges,
) -> Result<Vec<StaticMount>, ConfigError> {
    let base = reader.base().to_owned();
    let mounts: Vec<StaticMount> = reader.many(Setting::Static, |text| {
        let (prefix, dir) = text.split_once('=').ok_or(FORM)?;
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !is_prefix(prefix) || dir.is_empty() {
            return Err(FORM.to_owned());
        }
        Ok(StaticMount { prefix: prefix.to_owned(), dir: base.join(dir) })
    })?;
    let origin =
        reader.given(Setting::Static).map_or(Origin::Default, |given| given.origin.clone());
    for (index, mount) in mounts.iter().enumerate() {
        let text = format!("{}={}", mount.prefix, mount.dir.display());
        let text = OsStr::new(&text);
        if mounts[..index].iter().any(|earlier| earlier.prefix == mount.prefix) {
            let expected = "each path once".to_owned();
            return Err(wrong(Setting::Static, &origin, text, expected));
        }
        readable_directory(Setting::Static, text, &origin, &mount.dir, privileges)?;
    }
    let shown: Vec<_> =
        mounts.iter().map(|it| format!("{}={}", it.prefix, it.dir.display())).collect();
    reader.note(Setting::Static, shown.join(", "), origin);
    Ok(mounts)
}

/// Reads the directory of the files that the application names.
pub(super) fn sendfile_root(
    reader: &mut Reader<'_>,
    privileges: &Privileges,
) -> Result<Option<PathBuf>, ConfigError> {
    let Some(dir) = reader.path(Setting::SendfileRoot)? else { return Ok(None) };
    if let Some((text, origin)) = reader.last(Setting::SendfileRoot) {
        readable_directory(Setting::SendfileRoot, text, origin, &dir, privileges)?;
    }
    Ok(Some(dir))
}

/// Whether a path can be the start of the path of a request, once that is decoded.
fn is_prefix(prefix: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    let is_plain = |c: char| !c.is_control() && !"?#\\%".contains(c);
    let below = prefix.strip_prefix('/').unwrap_or_default();
    below.split('/').all(is_part) && prefix.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::system::environment::Environment;

    fn read(values: &[&str]) -> Result<Vec<StaticMount>, ConfigError> {
        let given = [
            (Setting::Application, vec!["shop:app".into()]),
            (Setting::Static, values.iter().map(Into::into).collect()),
        ];
        let source = Source::of_command_line(given, Environment::default())?;
        Ok(source.read()?.worker.files.mounts)
    }

    #[test]
    fn a_mount_is_a_path_and_a_directory() {
        let mounts = read(&["/static=/", "/a/b/=/usr", "/.well-known=/a=b/.."]);
        assert!(mounts.is_err(), "the last directory does not exist");
        let mounts = read(&["/static=/", "/a/b/=/usr", "/.well-known=/etc"]).unwrap();
        let shown: Vec<_> =
            mounts.iter().map(|it| (it.prefix.as_str(), it.dir.to_str().unwrap())).collect();
        assert_eq!(shown, [("/static", "/"), ("/a/b", "/usr"), ("/.well-known", "/etc")]);
    }

    #[test]
    fn a_text_that_is_no_mount_is_refused_with_an_example() {
        for text in [
            "/static",
            "static=/",
            "=/",
            "/=/",
            "/s=",
            "//s=/",
            "/s//=/",
            "/a/../b=/",
            "/s?=/",
            "/%73=/",
        ] {
            let error = read(&[text]).unwrap_err();
            let expected = format!("--static '{text}': expected {FORM}");
            assert_eq!((error.to_string(), error.exit_code()), (expected, 2));
        }
    }

    #[test]
    fn a_path_has_one_directory() {
        let error = read(&["/s=/", "/s/=/usr"]).unwrap_err();
        assert_eq!(error.to_string(), "--static '/s=/usr': expected each path once");
    }

    #[test]
    fn a_directory_that_does_not_exist_is_named() {
        let error = read(&["/s=/nonexistent/static"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("--static") && text.contains("/nonexistent/static"), "{text}");
        assert_eq!(error.exit_code(), 1);
    }
}
