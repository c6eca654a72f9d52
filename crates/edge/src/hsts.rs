//! HSTS: browsers that have come by TLS once come by TLS only (RFC 6797).

use http::header::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Period;

/// Has browsers remember to come by TLS only. They hold to it until `max_age` has passed, also when
/// TLS has become impossible meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HstsConfig {
    /// How long they remember, from their last visit. `0s` has them forget.
    pub max_age: Period,
    /// Whether it is for all names below this host, too.
    pub include_subdomains: bool,
    /// Whether makers of browsers may put the host into the list that they deliver, which is hard to
    /// undo. Needs a `max_age` of a year and `include_subdomains`.
    pub preload: bool,
}

impl Default for HstsConfig {
    fn default() -> Self {
        Self { max_age: Period(YEAR), include_subdomains: false, preload: false }
    }
}

impl HstsConfig {
    /// What is missing for the list of browsers to take it (hstspreload.org).
    pub fn lacks_for_preload(self) -> Option<&'static str> {
        match self {
            Self { preload: false, .. } => None,
            Self { include_subdomains: false, .. } => Some("include_subdomains"),
            Self { max_age, .. } if max_age.0 < YEAR => Some("max_age"),
            _ => None,
        }
    }

    /// The value of `Strict-Transport-Security`.
    pub fn header(self) -> HeaderValue {
        let subdomains = if self.include_subdomains { "; includeSubDomains" } else { "" };
        let preload = if self.preload { "; preload" } else { "" };
        let text = format!("max-age={}{subdomains}{preload}", self.max_age.0.as_secs());
        HeaderValue::try_from(text).expect("a number and words are a header value")
    }
}

const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: HstsConfig, header: &str, lacks: Option<&str>) {
        assert_eq!(config.header(), header);
        assert_eq!(config.lacks_for_preload(), lacks);
    }

    #[test]
    fn the_header_says_what_is_set() {
        let all = HstsConfig { include_subdomains: true, preload: true, ..HstsConfig::default() };
        let day = Period::from_secs(86_400);
        check(HstsConfig::default(), "max-age=31536000", None);
        check(all, "max-age=31536000; includeSubDomains; preload", None);
        check(HstsConfig { max_age: day, ..HstsConfig::default() }, "max-age=86400", None);
        let short = HstsConfig { max_age: day, ..all };
        check(short, "max-age=86400; includeSubDomains; preload", Some("max_age"));
        let alone = HstsConfig { include_subdomains: false, ..all };
        check(alone, "max-age=31536000; preload", Some("include_subdomains"));
    }
}
