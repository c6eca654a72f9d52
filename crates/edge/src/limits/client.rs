//! Whom limits take for one client.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use tidewire_auth::identity::Identity;

use super::table::Key;

/// The address as rules and limits see it: an IPv4 one is the same whichever socket it came by.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl Key {
    /// An IPv4 address, or the /64 of an IPv6 one: that is what a household has, and any address in
    /// it is free for the taking.
    pub fn of_address(address: IpAddr) -> Self {
        match canonical(address) {
            // As the IPv6 address that it is mapped to, which no /64 is.
            IpAddr::V4(address) => {
                let bits = address.to_ipv6_mapped().to_bits();
                Self([(bits >> 64) as u64, bits as u64])
            }
            IpAddr::V6(address) => Self([(address.to_bits() >> 64) as u64, 0]),
        }
    }

    /// A subject, and the authority that vouches for it: two of them may use one name for two
    /// people. `None` when nothing names the client.
    pub fn of_identity(identity: &Identity, seeds: &[RandomState; 2]) -> Option<Self> {
        let named = |it: &&tidewire_auth::identity::Credential| it.subject.is_some();
        let credential = identity.credentials().find(named)?;
        let name = (&credential.auth, credential.subject.as_ref()?);
        // 128 bits of a hash that nobody outside can compute: two names do not meet.
        Some(Self([seeds[0].hash_one(name), seeds[1].hash_one(name)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(one: &str, other: &str, are_one: bool) {
        let key = |text: &str| Key::of_address(text.parse().unwrap());
        assert_eq!(key(one) == key(other), are_one, "{one} and {other}");
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_prefix_of_64_bits() {
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("::ffff:192.0.2.1", "::ffff:192.0.2.2", false);
        check("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true);
        check("2001:db8:0:1::1", "2001:db8:0:2::1", false);
        // `::/64` has the mapped addresses in it.
        check("::1", "192.0.2.1", false);
        check("::1", "0.0.0.0", false);
    }

    #[test]
    fn an_identity_is_a_subject_within_its_authority() {
        let seeds = [RandomState::new(), RandomState::new()];
        let key = |auth: &str, subject: Option<&str>| {
            let credential = tidewire_auth::identity::Credential {
                auth: auth.into(),
                subject: subject.map(Into::into),
                token_id: None,
                issued: None,
                expires: None,
            };
            Key::of_identity(&Identity::new(credential, serde_json::Map::new()), &seeds)
        };
        assert_eq!(key("users", Some("ann")), key("users", Some("ann")));
        assert_ne!(key("users", Some("ann")), key("users", Some("bob")));
        assert_ne!(key("users", Some("ann")), key("staff", Some("ann")));
        assert_ne!(key("users", Some("ann")), key("usersann", Some("")));
        assert_eq!(key("users", None), None);
    }
}
