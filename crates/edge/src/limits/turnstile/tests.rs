//! What is counted is given back, once, whatever becomes of a connection.

use tidewire_auth::identity::Credential;
use tidewire_runtime::rate::Pace;

use super::*;

fn turnstile(per_address: Quota, per_identity: Quota, total: Quota) -> Arc<Turnstile> {
    let quotas = Quotas { per_address, per_identity, total, max_known: 100 };
    Arc::new(Turnstile::new("route `/`".to_owned(), &quotas))
}

fn most(connections: u32, handshakes: u32) -> Quota {
    Quota { connections: Some(connections), handshakes: Some(handshakes), ..Quota::default() }
}

/// `burst` at once, and no more in the time of a test.
fn few(burst: u64) -> Option<Pace> {
    Pace::new(1, Duration::from_secs(3600), burst)
}

const ANN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn held(turnstile: &Turnstile) -> Vec<u64> {
    turnstile.census().map(|(_, census, _)| census.held).collect()
}

#[track_caller]
fn enter(turnstile: &Arc<Turnstile>, client: IpAddr) -> Pass {
    turnstile.enter(Some(client)).expect("there is room").pass.expect("it is counted")
}

fn named(name: &str) -> Identity {
    let credential = Credential {
        auth: "users".into(),
        subject: Some(name.into()),
        token_id: None,
        issued: None,
        expires: None,
    };
    Identity::new(credential, serde_json::Map::new())
}

#[track_caller]
fn check_refused(turnstile: &Arc<Turnstile>, client: IpAddr, name: &str) {
    assert_eq!(turnstile.enter(Some(client)).map(|_| ()).expect_err("it is full").as_str(), name);
}

fn refusals(turnstile: &Turnstile) -> Vec<(&'static str, u64)> {
    turnstile
        .refusals()
        .filter(|it| it.1 > 0)
        .map(|(limit, count)| (limit.as_str(), count))
        .collect()
}

#[test]
fn a_pass_counts_a_handshake_then_a_connection_then_nothing() {
    let turnstile = turnstile(most(2, 1), most(2, 1), most(3, 2));
    let mut pass = enter(&turnstile, ANN);
    assert_eq!(held(&turnstile), [2, 0, 2]);
    pass.identify(ANN, &named("ann")).expect("her first");
    assert_eq!(held(&turnstile), [2, 2, 2]);
    let pass = pass.open().expect("connections are counted");
    assert_eq!(held(&turnstile), [1, 1, 1]);
    let pass = pass.open().expect("it is open already");
    assert_eq!(held(&turnstile), [1, 1, 1]);
    drop(pass);
    assert_eq!(held(&turnstile), [0, 0, 0]);
    drop(enter(&turnstile, ANN));
    assert_eq!(held(&turnstile), [0, 0, 0]);
}

#[test]
fn where_handshakes_alone_are_counted_an_open_one_is_not() {
    let only = || Quota { handshakes: Some(1), ..Quota::default() };
    let turnstile = turnstile(only(), Quota::default(), only());
    assert!(enter(&turnstile, ANN).open().is_none());
    assert_eq!(held(&turnstile), [0, 0]);
    let _pass = enter(&turnstile, ANN);
    check_refused(&turnstile, ANN, "per_address.handshakes");
}

#[test]
fn who_is_one_too_many_of_all_has_not_come() {
    let address = Quota { arrivals: few(2), requests: few(1), ..most(9, 9) };
    let total = Quota { requests: few(1), ..most(1, 9) };
    let turnstile = turnstile(address, Quota::default(), total);
    let first = enter(&turnstile, ANN);
    for _ in 0..5 {
        check_refused(&turnstile, BOB, "total.connections");
    }
    assert_eq!(held(&turnstile), [2, 2]);
    drop(first);
    // None of the five was charged to him.
    drop(enter(&turnstile, BOB));
    drop(enter(&turnstile, BOB));
    check_refused(&turnstile, BOB, "per_address.rate");
    assert_eq!(held(&turnstile), [0, 0]);
    let request = |client| {
        let taken = turnstile.request(client).and_then(|()| turnstile.request_of_all(client));
        taken.map_err(Turned::as_str)
    };
    assert_eq!(request(ANN), Ok(()));
    assert_eq!(request(BOB), Err("total.requests"));
    assert_eq!(request(BOB), Err("total.requests"));
    assert_eq!(request(ANN), Err("per_address.requests"));
    let counts = [
        ("per_address.rate", 1),
        ("per_address.requests", 1),
        ("total.connections", 5),
        ("total.requests", 2),
    ];
    assert_eq!(refusals(&turnstile), counts);
}

/// Where only the rate of an address is limited, it has no place in the table that would say so.
#[test]
fn a_rate_alone_is_given_back_too() {
    let address = Quota { arrivals: few(1), ..Quota::default() };
    let turnstile = turnstile(address, Quota::default(), most(1, 9));
    let first = enter(&turnstile, ANN);
    check_refused(&turnstile, BOB, "total.connections");
    drop(first);
    drop(enter(&turnstile, BOB));
    check_refused(&turnstile, BOB, "per_address.rate");
}

#[test]
fn an_identity_that_is_refused_leaves_its_address_as_it_was() {
    let turnstile = turnstile(most(5, 5), most(1, 5), Quota::default());
    let ann = named("ann");
    let mut first = enter(&turnstile, ANN);
    first.identify(ANN, &ann).expect("her first");
    let mut second = enter(&turnstile, BOB);
    let refused = second.identify(BOB, &ann).expect_err("her second");
    assert_eq!(refused.as_str(), "per_identity.connections");
    drop(second);
    assert_eq!(held(&turnstile), [2, 2]);
    drop(first);
    assert_eq!(held(&turnstile), [0, 0]);
}

#[test]
fn who_is_refused_by_its_name_has_not_come_by_its_address_and_of_all() {
    let rated = || Quota { arrivals: few(2), requests: few(2), ..Quota::default() };
    let one = Quota { connections: Some(1), requests: few(1), ..Quota::default() };
    let turnstile = turnstile(rated(), one, rated());
    let mut first = enter(&turnstile, ANN);
    first.identify(ANN, &named("ann")).expect("her first");
    for _ in 0..5 {
        let refused = enter(&turnstile, ANN).identify(ANN, &named("ann"));
        let refused = refused.map(|_| ()).expect_err("she has one");
        assert_eq!(refused.as_str(), "per_identity.connections");
    }
    enter(&turnstile, BOB).identify(BOB, &named("bob")).expect("it is his first");
    check_refused(&turnstile, BOB, "total.rate");
    let request = |client, name| {
        turnstile.request(client).map_err(Turned::as_str)?;
        turnstile.request_of_all(client).map_err(Turned::as_str)?;
        turnstile.request_of(client, &named(name)).map_err(Turned::as_str)
    };
    assert_eq!(request(ANN, "ann"), Ok(()));
    for _ in 0..5 {
        assert_eq!(request(ANN, "ann"), Err("per_identity.requests"));
    }
    assert_eq!(request(BOB, "bob"), Ok(()));
    assert_eq!(request(BOB, "bob"), Err("total.requests"));
}

#[tokio::test]
async fn who_waits_for_its_address_takes_no_turn_of_all() {
    let rate = |count| Quota {
        arrivals: Pace::new(count, Duration::from_secs(3600), 1),
        wait: Duration::from_secs(7200),
        ..Quota::default()
    };
    let turnstile = turnstile(rate(1), Quota::default(), rate(100));
    let enter = |client| turnstile.enter(Some(client)).expect("it may wait");
    assert!(enter(ANN).line.is_none());
    let again = enter(ANN).line.expect("one an hour");
    assert!(matches!(again.at, LineOf::Address(_)));
    let other = enter(BOB).line.expect("he is the second of all");
    assert_eq!(other.at, LineOf::Total);
    let turn = |line: &Line| turnstile.ask(line.at, &line.place).expect("it waits");
    assert!(turn(&again) > Duration::from_secs(1800));
    assert!(turn(&other) <= Duration::from_secs(36));
    // Who is behind her comes sooner once she leaves, and so does who is behind him.
    let mut behind = [enter(ANN), enter(std::net::Ipv4Addr::new(192, 0, 2, 3).into())];
    drop((again, other));
    for entered in &mut behind {
        let (line, known) = (entered.line.take().expect("it waits"), Duration::from_secs(3600));
        assert!(turn(&line) <= known, "{line:?}");
    }
    assert!(!turnstile.total.as_ref().is_some_and(|(_, tally)| lock(tally).is_in_use()));
}

#[tokio::test]
async fn a_task_that_panics_or_is_cut_off_gives_its_pass_back() {
    let turnstile = turnstile(most(5, 5), Quota::default(), most(5, 5));
    let panicking = enter(&turnstile, ANN);
    let opened = enter(&turnstile, ANN).open();
    let panics = tokio::spawn(async move {
        let _held = (panicking, opened);
        panic!("as planned");
    });
    assert!(panics.await.is_err_and(|error| error.is_panic()));
    assert_eq!(held(&turnstile), [0, 0]);
    let pass = enter(&turnstile, ANN);
    let waits = tokio::spawn(async move {
        let _held = pass;
        std::future::pending::<()>().await;
    });
    tokio::task::yield_now().await;
    assert_eq!(held(&turnstile), [2, 2]);
    waits.abort();
    assert!(waits.await.is_err());
    assert_eq!(held(&turnstile), [0, 0]);
}
