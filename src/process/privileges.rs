//! The user and groups of the workers, resolved once before the first fork.
//!
//! The user database is read here and not in the child, because its modules (nsswitch.conf(5)) open sockets
//! and files of their own, and each respawn would depend on a directory service.

use std::ffi::CString;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, User, getegid, geteuid, getgrouplist, setgid, setgroups, setuid};
use thiserror::Error;

use crate::config::Privileges;

/// Why the identity of the workers cannot be resolved.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// `--user` or `--group` differs from the supervisor's, which does not run as root.
    #[error("only root can run workers as another user or group")]
    NotRoot,
    /// The user has no entry in the user database, so its group is unknown.
    #[error("user {user} is not in the user database: its group must be given, too")]
    UnknownUser {
        /// The `--user` that was looked up.
        user: Uid,
    },
    /// The user database cannot be read.
    #[error("cannot read the user database")]
    UserDatabase {
        /// The error of getpwuid_r(3) or getgrouplist(3).
        source: nix::Error,
    },
}

/// The user, groups and umask of the children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    change: Change,
    allow_new_privileges: bool,
    umask: Option<Mode>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// The child keeps the identity of the supervisor.
    None,
    /// As root: another group, and no supplementary groups.
    Group(Gid),
    /// As root: another user, with all of its groups.
    User { user: Uid, group: Gid, groups: Vec<Gid> },
}

impl Identity {
    /// Looks up the user and its groups.
    ///
    /// Errors: [`IdentityError`].
    pub fn resolve(privileges: &Privileges) -> Result<Self, IdentityError> {
        let change = Self::change(privileges, geteuid(), getegid())?;
        let Privileges { allow_new_privileges, umask, .. } = *privileges;
        Ok(Self { change, allow_new_privileges, umask })
    }

    fn change(privileges: &Privileges, uid: Uid, gid: Gid) -> Result<Change, IdentityError> {
        let is_other = privileges.user.is_some_and(|user| user != uid)
            || privileges.group.is_some_and(|group| group != gid);
        if !is_other {
            return Ok(Change::None);
        }
        if !uid.is_root() {
            return Err(IdentityError::NotRoot);
        }
        let Some(user) = privileges.user else {
            return Ok(privileges.group.map_or(Change::None, Change::Group));
        };
        let unreadable = |source| IdentityError::UserDatabase { source };
        let entry = User::from_uid(user).map_err(unreadable)?;
        let (group, groups) = match (entry, privileges.group) {
            (Some(entry), group) => {
                let group = group.unwrap_or(entry.gid);
                let name = CString::new(entry.name).expect("the name came from a C string");
                (group, getgrouplist(&name, group).map_err(unreadable)?)
            }
            (None, Some(group)) => (group, vec![group]),
            (None, None) => return Err(IdentityError::UnknownUser { user }),
        };
        Ok(Change::User { user, group, groups })
    }

    /// Whether the child must not be able to regain the privileges that it gives up: neither by a program that it
    /// runs (PR_SET_NO_NEW_PRIVS), nor by a capability that a program could give it (the bounding set).
    pub(crate) fn gives_up_privileges(&self) -> bool {
        match &self.change {
            Change::User { user, .. } => !user.is_root() && !self.allow_new_privileges,
            Change::None | Change::Group(_) => false,
        }
    }

    /// Takes on the identity, in the child. Groups come first, because only root can change them.
    pub(crate) fn assume(&self) -> nix::Result<()> {
        if let Some(mask) = self.umask {
            umask(mask);
        }
        match &self.change {
            Change::None => Ok(()),
            Change::Group(group) => {
                setgroups(&[*group])?;
                setgid(*group)
            }
            Change::User { user, group, groups } => {
                setgroups(groups)?;
                setgid(*group)?;
                setuid(*user)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Uid = Uid::from_raw(0);
    const OTHER_USER: Uid = Uid::from_raw(1_234_567);
    const GROUP: Gid = Gid::from_raw(7_654_321);

    fn change(user: Option<Uid>, group: Option<Gid>, uid: Uid) -> Result<Change, IdentityError> {
        let privileges = Privileges { user, group, ..Privileges::default() };
        Identity::change(&privileges, uid, Gid::from_raw(0))
    }

    #[test]
    fn nothing_changes_when_nothing_is_given() {
        assert_eq!(change(None, None, OTHER_USER).unwrap(), Change::None);
    }

    #[test]
    fn the_current_user_needs_no_root() {
        assert_eq!(change(Some(OTHER_USER), None, OTHER_USER).unwrap(), Change::None);
    }

    #[test]
    fn only_root_becomes_another_user() {
        assert!(matches!(change(Some(ROOT), None, OTHER_USER), Err(IdentityError::NotRoot)));
    }

    #[test]
    fn a_user_outside_the_database_needs_a_group() {
        let refused = change(Some(OTHER_USER), None, ROOT);
        assert!(matches!(refused, Err(IdentityError::UnknownUser { user: OTHER_USER })));
        let expected = Change::User { user: OTHER_USER, group: GROUP, groups: vec![GROUP] };
        assert_eq!(change(Some(OTHER_USER), Some(GROUP), ROOT).unwrap(), expected);
    }

    #[test]
    fn only_a_child_that_becomes_another_user_gives_up_privileges() {
        let gives_up = |change, allow_new_privileges| {
            Identity { change, allow_new_privileges, umask: None }.gives_up_privileges()
        };
        let user = || Change::User { user: OTHER_USER, group: GROUP, groups: vec![GROUP] };
        assert!(gives_up(user(), false));
        assert!(!gives_up(user(), true));
        assert!(!gives_up(Change::None, false));
        assert!(!gives_up(Change::Group(GROUP), false), "it still is root");
        let root = Change::User { user: ROOT, group: GROUP, groups: vec![GROUP] };
        assert!(!gives_up(root, false), "root keeps its privileges");
    }

    #[test]
    fn a_group_alone_drops_the_groups_of_root() {
        assert_eq!(change(None, Some(GROUP), ROOT).unwrap(), Change::Group(GROUP));
    }
}
