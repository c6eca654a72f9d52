//! Users and groups of the system: who a process is to become.

use std::fmt;

use nix::unistd::{Gid, Group, Uid, User};

/// A user with the group that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub user: Named,
    pub group: Named,
}

/// A number of the system and what it is called; the number again when it has no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub id: u32,
    pub name: String,
}

/// Why there is no such account.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unknown {
    #[error("there is no user `{0}`")]
    User(String),
    #[error("there is no group `{0}`")]
    Group(String),
    #[error("user {0} has no name here, so its group is not known")]
    GroupOf(u32),
}

impl Account {
    /// The account of a user, by name or number. Without `group`, the user's own.
    ///
    /// # Errors
    /// When the system knows no such user or group. A number needs no entry, as in containers, but
    /// then a `group`.
    pub fn find(user: &str, group: Option<&str>) -> Result<Self, Unknown> {
        let (user, own) = find_user(user)?;
        let group = match (group, own) {
            (Some(group), _) => find_group(group)?,
            (None, Some(own)) => named_group(own),
            (None, None) => return Err(Unknown::GroupOf(user.id)),
        };
        Ok(Self { user, group })
    }

    /// The one that the process has now.
    pub fn of_process() -> Self {
        let uid = Uid::effective();
        let user = User::from_uid(uid).ok().flatten();
        let name = user.map_or_else(|| uid.to_string(), |user| user.name);
        let user = Named { id: uid.as_raw(), name };
        Self { user, group: named_group(Gid::effective()) }
    }

    pub fn is_root(&self) -> bool {
        self.user.id == 0
    }
}

/// The number of a user, by name or number.
///
/// # Errors
/// When the system knows no such user.
pub fn user(text: &str) -> Result<u32, Unknown> {
    find_user(text).map(|(user, _)| user.id)
}

/// The number of a group, by name or number.
///
/// # Errors
/// When the system knows no such group.
pub fn group(text: &str) -> Result<u32, Unknown> {
    find_group(text).map(|group| group.id)
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A user, and its group if it has an entry.
fn find_user(text: &str) -> Result<(Named, Option<Gid>), Unknown> {
    let known = |user: User| (Named { id: user.uid.as_raw(), name: user.name }, Some(user.gid));
    if let Ok(Some(user)) = User::from_name(text) {
        return Ok(known(user));
    }
    let id: u32 = number(text).ok_or_else(|| Unknown::User(text.to_owned()))?;
    let user = User::from_uid(Uid::from_raw(id)).ok().flatten();
    Ok(user.map_or_else(|| (Named { id, name: id.to_string() }, None), known))
}

fn find_group(text: &str) -> Result<Named, Unknown> {
    if let Ok(Some(group)) = Group::from_name(text) {
        return Ok(Named { id: group.gid.as_raw(), name: group.name });
    }
    let id = number(text).ok_or_else(|| Unknown::Group(text.to_owned()))?;
    Ok(named_group(Gid::from_raw(id)))
}

fn named_group(gid: Gid) -> Named {
    let group = Group::from_gid(gid).ok().flatten();
    Named { id: gid.as_raw(), name: group.map_or_else(|| gid.to_string(), |group| group.name) }
}

/// The greatest number means "leave it as it is" to `setuid` and its like.
fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&id| is_number && id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let root = Account::find("root", None).unwrap();
        assert!(root.is_root());
        assert_eq!((root.user.name.as_str(), root.group.id), ("root", 0));
        assert_eq!(Account::find("0", None).unwrap(), root);
        let stranger = Account::find("3999999999", Some("0")).unwrap();
        assert_eq!((stranger.user.id, stranger.group.id), (3_999_999_999, 0));
        assert_eq!(stranger.user.to_string(), "3999999999");
    }

    #[test]
    fn what_the_system_does_not_know_is_named() {
        let check = |user, group, expected: Unknown| {
            assert_eq!(Account::find(user, group), Err(expected), "{user} {group:?}");
        };
        check("no-such-user", None, Unknown::User("no-such-user".into()));
        check("", None, Unknown::User(String::new()));
        check("+1", None, Unknown::User("+1".into()));
        check("4294967295", Some("0"), Unknown::User("4294967295".into()));
        check("4294967296", Some("0"), Unknown::User("4294967296".into()));
        check("root", Some("no-such-group"), Unknown::Group("no-such-group".into()));
        check("3999999999", None, Unknown::GroupOf(3_999_999_999));
    }
}
