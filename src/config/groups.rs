//! The groups of a site in a configuration file: users with backends of their own.

use std::path::Path;

use super::error::{Fault, quoted};
use super::location::{Location, PathStep, steps};
use super::sites::is_label;
use super::{Backend, Group, Listener, UnknownUsers, backends, file};
use crate::policy::users::UserPattern;

/// A pattern of an earlier group, and that group's name.
struct Taken {
    pattern: UserPattern,
    group: String,
}

/// The groups of site number `site`, whose own backends are `own`. Relative file names count from `base`.
pub(super) fn resolve(
    written: Option<Vec<file::Group>>,
    unknown_users: UnknownUsers,
    own: &[Backend],
    site: usize,
    listeners: &[Listener],
    base: &Path,
) -> Result<Vec<Group>, Fault> {
    let Some(written) = written else {
        return match unknown_users {
            UnknownUsers::Accept => Ok(Vec::new()),
            UnknownUsers::Refuse => Err(Fault::new(
                Location::Value(steps!["sites", site, "unknown_users"]),
                "`unknown_users: refuse` without `groups`: every user is unknown, so no user could log in",
                "add `groups`, or leave `unknown_users` out",
            )),
        };
    };
    if written.is_empty() {
        return Err(Fault::new(
            Location::Key(steps!["sites", site, "groups"]),
            "`groups` without a group",
            "write `- {name: moved, users: [alice], backends: [{address: 10.0.0.21:21}]}`, or leave `groups` out",
        ));
    }
    let mut groups: Vec<Group> = Vec::with_capacity(written.len());
    let mut taken: Vec<Taken> = Vec::new();
    for (index, group) in written.into_iter().enumerate() {
        let at = steps!["sites", site, "groups", index];
        check_name(&group.name, &at, &groups)?;
        let users = group.users.unwrap_or_default();
        if users.is_empty() && group.users_file.is_none() {
            return Err(Fault::new(
                Location::Value(at),
                format!(
                    "group {} has neither `users` nor `users_file`",
                    quoted(&group.name)
                ),
                "write its users, such as `users: [alice, \"acme-*\"]`",
            ));
        }
        for (number, pattern) in users.iter().enumerate() {
            refuse_taken(pattern, &taken, || step_into(&at, "users", number))?;
            taken.push(Taken {
                pattern: pattern.clone(),
                group: group.name.clone(),
            });
        }
        let backends = backends::resolve(group.backends, &at, listeners, base)?;
        let mut others: Vec<&[Backend]> = groups.iter().map(|group| &group.backends[..]).collect();
        others.push(own);
        backends::refuse_ambiguous_labels(&backends, &others, &at)?;
        groups.push(Group {
            name: group.name,
            users: users.into_iter().collect(),
            users_file: group.users_file.map(|file| base.join(file.0)),
            backends,
        });
    }
    Ok(groups)
}

fn check_name(name: &str, at: &[PathStep], earlier: &[Group]) -> Result<(), Fault> {
    let fault = |what: String, remedy: &str| {
        let path = at.iter().copied().chain(["name".into()]);
        Err(Fault::new(Location::Value(path.collect()), what, remedy))
    };
    if !is_label(name) {
        return fault(
            format!("{} can't be the name of a group", quoted(name)),
            "write 1 to 64 letters, digits, `-`, `_` or `.`: the name appears in logs",
        );
    }
    if earlier
        .iter()
        .any(|group| group.name.eq_ignore_ascii_case(name))
    {
        return fault(
            format!("a second group named {}", quoted(name)),
            "give each group of a site a name of its own",
        );
    }
    Ok(())
}

/// A pattern of which each user belongs to an earlier group, or stands there before, would never apply.
fn refuse_taken(
    pattern: &UserPattern,
    taken: &[Taken],
    at: impl Fn() -> Vec<PathStep>,
) -> Result<(), Fault> {
    let Some(earlier) = taken.iter().find(|earlier| earlier.pattern.covers(pattern)) else {
        return Ok(());
    };
    let (this, that) = (
        quoted(&pattern.to_string()),
        quoted(&earlier.pattern.to_string()),
    );
    let group = quoted(&earlier.group);
    Err(Fault::new(
        Location::Value(at()),
        match earlier.pattern == *pattern {
            true => format!("{this} is a user of group {group} already"),
            false => format!(
                "{this} never applies: {that} of group {group} covers it, and the first group that fits applies"
            ),
        },
        "keep each user once, and put groups for single users before those for prefixes",
    ))
}

fn step_into(at: &[PathStep], key: &'static str, index: usize) -> Vec<PathStep> {
    at.iter()
        .copied()
        .chain([key.into(), index.into()])
        .collect()
}
