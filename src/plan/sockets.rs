//! Sockets of listeners: that their options are such as the kernel takes, and that rights are of
//! somebody and for something.

use std::time::Duration;

use tidewire_runtime::account::{self, Unknown};
use tidewire_runtime::listener::{Address, ListenOptions};
use tidewire_runtime::tcp_options::TcpOptions;
use tidewire_runtime::unix_socket::SocketRights;

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::listen::ListenConfig;
use crate::config::place::Place;
use crate::config::unix::UnixConfig;

impl<'c> Checks<'c> {
    /// How the addresses of a listener are listened on; what is wrong with it is reported.
    pub(super) fn sockets(&mut self, listener: &ListenConfig, place: Place<'c>) -> ListenOptions {
        self.tcp(&listener.tcp, place.key("tcp"));
        let backlog = place.key("backlog");
        if !(1..=BACKLOG_MOST).contains(&listener.backlog) && backlog.is_given() {
            let finding = Diagnostic::error("`backlog` is out of its bounds");
            let expected = format!("expected 1 to {BACKLOG_MOST}");
            self.report(finding.at(backlog.span(), expected));
        }
        let has_unix = listener.bind.0.iter().any(|it| matches!(it.0, Address::Unix(_)));
        let unix = place.key("unix");
        // The starting file has the defaults of every key.
        let is_set = listener.unix != UnixConfig::default();
        if !has_unix && is_set && unix.is_given() && place.key("bind").is_whole() {
            let finding =
                Diagnostic::warning("`unix` without a Unix socket: no file has its rights");
            let help = "bind one, such as `bind = \"unix:/run/tidewire/edge.sock\"`";
            self.report(finding.at(unix.key_span(), "not used").help(help));
        }
        let rights = self.rights(&listener.unix, unix);
        ListenOptions { tcp: listener.tcp, rights, backlog: listener.backlog }
    }

    /// When the kernel gives a connection up.
    pub(super) fn tcp(&mut self, tcp: &TcpOptions, place: Place<'c>) {
        let keepalive = place.key("keepalive");
        let whole_seconds =
            [("time", tcp.keepalive.time.0, true), ("interval", tcp.keepalive.interval.0, false)];
        for (key, period, may_be_none) in whole_seconds {
            let place = keepalive.key(key);
            let is_none = may_be_none && period.is_zero();
            let is_good = (KEEPALIVE_LEAST..=KEEPALIVE_MOST).contains(&period) || is_none;
            if !is_good && place.is_given() {
                let finding = Diagnostic::error(format!("`{key}` is out of its bounds"));
                let never = if may_be_none { ", or \"0s\" for no keepalive" } else { "" };
                let expected = format!("expected \"1s\" to \"9h\"{never}");
                self.report(finding.at(place.span(), expected));
            }
        }
        let probes = keepalive.key("probes");
        if !(1..=127).contains(&tcp.keepalive.probes) && probes.is_given() {
            let finding = Diagnostic::error("`probes` is out of its bounds");
            self.report(finding.at(probes.span(), "expected 1 to 127"));
        }
        let (timeout, place) = (tcp.user_timeout.0, place.key("user_timeout"));
        let is_good = timeout.is_zero() || (KEEPALIVE_LEAST..=USER_TIMEOUT_MOST).contains(&timeout);
        if !is_good && place.is_given() {
            let finding = Diagnostic::error("`user_timeout` is out of its bounds");
            let expected = "expected \"1s\" to \"1d\", or \"0s\" for the kernel's own";
            self.report(finding.at(place.span(), expected));
        }
    }

    fn rights(&mut self, unix: &UnixConfig, place: Place<'c>) -> SocketRights {
        let user = unix.user.as_deref().map(account::user);
        let group = unix.group.as_deref().map(account::group);
        let mut known = |found: Option<Result<u32, Unknown>>, key: &str, what: &str| match found? {
            Ok(id) => Some(id),
            Err(_) => {
                let place = place.key(key);
                if place.is_given() {
                    let finding =
                        Diagnostic::error(format!("there is no {what} `{}`", place.shown()));
                    let expected = format!("expected a {what} of this machine, by name or number");
                    self.report(finding.at(place.span(), expected));
                }
                None
            }
        };
        let (user, group) = (known(user, "user", "user"), known(group, "group", "group"));
        SocketRights { mode: unix.mode.0, user, group }
    }
}

/// The kernel counts in whole seconds, 32767 at most.
const KEEPALIVE_LEAST: Duration = Duration::from_secs(1);
const KEEPALIVE_MOST: Duration = Duration::from_secs(9 * 3600);

const USER_TIMEOUT_MOST: Duration = Duration::from_secs(86_400);

/// More is not held by any kernel.
const BACKLOG_MOST: u32 = 1 << 20;
