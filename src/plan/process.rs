//! Whom the process becomes: that there is such a user.

use tidewire_runtime::account::{Account, Unknown};

use super::Checks;
use super::belongings::Belonging;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;

/// What the process may do on its machine, and what it needs there.
#[derive(Clone, Debug)]
pub struct ProcessPlan {
    /// Whom the process becomes; `None` is who has started it.
    pub account: Option<Account>,
    pub core_dumps: bool,
    /// What it reads and writes after that.
    pub belongings: Vec<Belonging>,
}

impl Checks<'_> {
    pub(super) fn process(&mut self, config: &Config) -> ProcessPlan {
        let process = &config.process;
        let group = process.group.as_deref();
        let account = process.user.as_deref().and_then(|user| self.account(user, group));
        let place = self.place.key("process");
        let at = place.key("group");
        if process.user.is_none() && at.is_given() && place.key("user").is_whole() {
            let finding = Diagnostic::error("`[process]` has a `group` and no `user`");
            let help = "add `user = \"tidewire\"`: a group alone would leave root what it is";
            self.report(finding.at(at.key_span(), "of which user?").help(help));
        }
        let belongings = Belonging::of(config, self.dir);
        ProcessPlan { account, core_dumps: process.core_dumps, belongings }
    }

    fn account(&mut self, user: &str, group: Option<&str>) -> Option<Account> {
        let unknown = match Account::find(user, group) {
            Ok(account) => return Some(account),
            Err(unknown) => unknown,
        };
        let place = self.place.key("process");
        let (user, group) = (place.key("user"), place.key("group"));
        let (at, message, label, help) = match unknown {
            Unknown::User(_) => (
                user,
                format!("there is no user `{}`", user.shown()),
                "expected a user of this machine, by name or number",
                "such as one made by `useradd --system --shell /usr/sbin/nologin tidewire`",
            ),
            Unknown::Group(_) => (
                group,
                format!("there is no group `{}`", group.shown()),
                "expected a group of this machine, by name or number",
                "such as one made by `groupadd --system tidewire`",
            ),
            Unknown::GroupOf(_) => (
                user,
                format!("user `{}` has no name here, so its group is not known", user.shown()),
                "expected a `group` beside it",
                "add `group`, by name or number",
            ),
        };
        if at.is_given() {
            self.report(Diagnostic::error(message).at(at.span(), label).help(help));
        }
        None
    }
}
