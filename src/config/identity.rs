//! The user and group that workers run as. Names are looked up here, and what only root can do is refused before
//! anything starts.

use nix::unistd::{Gid, Group, Uid, User};

use super::Privileges;
use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::reader::{Reader, wrong};
use super::value::{Kind, Permissions, Whole, bounded};

/// Reads `--user`, `--group`, `--allow-new-privileges` and `--umask`.
///
/// Errors: also [`ConfigError::NotRoot`], if this process may not switch to the user or group.
pub(super) fn privileges(reader: &mut Reader<'_>) -> Result<Privileges, ConfigError> {
    let user = identity(reader, Setting::User, |name| {
        let found = User::from_name(name).ok().flatten()?;
        Some(found.uid.as_raw())
    })?
    .map(Uid::from_raw);
    if user.is_none() {
        reader.note(Setting::User, String::new(), Origin::Default);
    }
    let given_group = identity(reader, Setting::Group, |name| {
        let found = Group::from_name(name).ok().flatten()?;
        Some(found.gid.as_raw())
    })?
    .map(Gid::from_raw);
    let group = match (given_group, user) {
        (Some(group), _) => Some(group),
        (None, None) => {
            reader.note(Setting::Group, String::new(), Origin::Default);
            None
        }
        // Otherwise a user that is given to drop the privileges of root would keep the group of root.
        (None, Some(uid)) => {
            let gid = User::from_uid(uid).ok().flatten().map(|user| user.gid);
            let shown = gid.map_or_else(String::new, |gid| gid.to_string());
            reader.note(Setting::Group, shown, Origin::User(uid));
            gid
        }
    };
    let allow_new_privileges = reader.switch(Setting::AllowNewPrivileges)?;
    let umask = reader.given_as(Setting::Umask, Permissions)?;
    if umask.is_none() {
        reader.note(Setting::Umask, String::new(), Origin::Default);
    }
    must_be_allowed(reader, Setting::User, user.is_some_and(|user| user != Uid::effective()))?;
    must_be_allowed(reader, Setting::Group, given_group.is_some_and(|it| it != Gid::effective()))?;
    Ok(Privileges { user, group, allow_new_privileges, umask })
}

/// Reads a user or group, by number or by name.
fn identity(
    reader: &mut Reader<'_>,
    setting: Setting,
    look_up: impl Fn(&str) -> Option<u32>,
) -> Result<Option<u32>, ConfigError> {
    let Some((text, origin)) = reader.last(setting) else { return Ok(None) };
    // chown(2) and setresuid(2) take the greatest number for "do not change".
    let numbers = Whole { min: 0, max: u64::from(u32::MAX - 1) };
    let Some(name) = text.to_str().filter(|name| !name.is_empty()) else {
        return Err(wrong(setting, origin, text, "a name or a number".to_owned()));
    };
    let id = match numbers.read(name) {
        Some(number) => Some(bounded(number)),
        None => look_up(name),
    };
    let id = id.ok_or_else(|| ConfigError::UnknownAccount {
        setting,
        origin: origin.clone(),
        text: name.to_owned(),
    })?;
    let shown = if name == id.to_string() { id.to_string() } else { format!("{name} ({id})") };
    reader.note(setting, shown, origin.clone());
    Ok(Some(id))
}

fn must_be_allowed(
    reader: &Reader<'_>,
    setting: Setting,
    is_change: bool,
) -> Result<(), ConfigError> {
    match reader.last(setting) {
        Some((text, origin)) if is_change && !Uid::effective().is_root() => {
            let text = text.to_string_lossy().into_owned();
            Err(ConfigError::NotRoot { setting, origin: origin.clone(), text })
        }
        Some(_) | None => Ok(()),
    }
}
