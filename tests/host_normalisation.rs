//! The host of a target in absolute form and that of `Host`: two ways to say one thing, and none to
//! say two.
//!
//! Each case is one of HAProxy's `h1_host_normalization.vtc`. What differs from it is listed, with
//! the reason, in docs/conformance.md.

use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;

/// What becomes of a request for `target` with these values of `Host`: its status, and the host that
/// its server hears.
#[track_caller]
fn check(method: &str, target: &str, hosts: &[&str], expected: Result<&str, u16>) {
    let rig = Rig::new(script::mirrors);
    let lines: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
    let answer = rig.answer(&format!("{method} {target} HTTP/1.1\r\n{lines}\r\n"));
    let found = match answer.status {
        200 => Ok(rig.server.request()),
        status => Err(status),
    };
    match (&found, expected) {
        (Ok(request), Ok(host)) => {
            let path = target.splitn(4, '/').nth(3).unwrap_or_default();
            assert_eq!(request.headers.all("host"), [host], "{method} {target} {hosts:?}");
            assert_eq!(request.target, format!("/{path}"), "{method} {target} {hosts:?}");
            assert_eq!(request.headers.all("x-forwarded-host"), [host]);
        }
        (Err(status), Err(expected)) if *status == expected => {
            assert_eq!(rig.server.accepted(), 0, "{method} {target} {hosts:?}: a server was asked");
        }
        _ => panic!("{method} {target} {hosts:?}: {found:?}, not {expected:?}"),
    }
}

#[test]
fn a_port_that_the_scheme_implies_may_be_left_out_on_either_side() {
    check("GET", "http://hostname:8080/c2", &["hostname:8080"], Ok("hostname:8080"));
    check("GET", "https://hostname:443/c3", &["hostname:443"], Ok("hostname:443"));
    check("GET", "https://hostname:80/c4", &["hostname:80"], Ok("hostname:80"));
    check("GET", "http://hostname:80/c20", &["hostname"], Ok("hostname:80"));
    check("GET", "https://hostname:443/c21", &["hostname"], Ok("hostname:443"));
    check("GET", "http://hostname/c22", &["hostname:80"], Ok("hostname"));
    check("GET", "https://hostname/c23", &["hostname:443"], Ok("hostname"));
    check("GET", "http://HostName/", &["hostname"], Ok("HostName"));
}

#[test]
fn hosts_and_ports_that_differ_are_refused() {
    check("GET", "http://hostname1/", &["hostname2"], Err(400));
    check("GET", "http://hostname:80/", &["hostname:81"], Err(400));
    check("GET", "http://hostname:8080/", &["hostname"], Err(400));
    check("GET", "http://hostname/", &["hostname:81"], Err(400));
    // The port that is implied is that of the scheme.
    check("GET", "https://hostname:80/", &["hostname"], Err(400));
    check("GET", "http://hostname/", &["hostname:443"], Err(400));
}

#[test]
fn two_hosts_are_refused_also_when_they_are_the_same() {
    check("GET", "http://hostname1/", &["hostname1", "hostname2"], Err(400));
    check("GET", "http://hostname1/", &["hostname1:80", "hostname1"], Err(400));
    check("GET", "/", &["hostname1", "hostname1"], Err(400));
    check("GET", "http://hostname1/", &[], Err(400));
}

#[test]
fn a_user_and_an_empty_port_in_a_host_are_refused() {
    check("GET", "http://toto:poue@hostname:80/c1", &["hostname:80"], Err(400));
    for (target, host) in [
        ("http://hostname:/c24", "hostname"),
        ("https://hostname:/c25", "hostname"),
        ("http://hostname/c26", "hostname:"),
        ("https://hostname/c27", "hostname:"),
        ("http://hostname:80/c28", "hostname:"),
        ("http://hostname:/c29", "hostname:80"),
        ("https://hostname:443/c30", "hostname:"),
        ("https://hostname:/c31", "hostname:443"),
        ("http://:", ":80"),
        ("https://:", ":443"),
        ("http://:", ":"),
        ("https://:", ":"),
    ] {
        check("GET", target, &[host], Err(400));
    }
}

#[test]
fn connect_is_refused_whatever_it_names() {
    for (target, host) in [
        ("hostname:80", "hostname:80"),
        ("hostname:80", "hostname"),
        ("hostname:443", "hostname:443"),
        ("hostname:8443", "hostname:8443"),
        ("hostname1:80", "hostname2:80"),
        ("hostname:80", "hostname:443"),
        ("hostname:8080", "hostname"),
    ] {
        check("CONNECT", target, &[host], Err(405));
    }
    for target in ["hostname", "/", "hostname:"] {
        let rig = Rig::new(script::mirrors);
        let answer = rig.answer(&format!("CONNECT {target} HTTP/1.1\r\nHost: hostname\r\n\r\n"));
        assert!(matches!(answer.status, 400 | 405), "{target}: {}", answer.status);
        assert_eq!(rig.server.accepted(), 0, "{target}: a server was asked");
    }
}
