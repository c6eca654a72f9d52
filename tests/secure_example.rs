//! The article's machines, secured: from the files of the example, with real browsers.

use serde_json::{Value, json};
use tidewire_testkit::browser::Browser;
use tidewire_testkit::deadline::until;
use tidewire_testkit::port::free_port;
use tidewire_testkit::secure::{Files, Secure};

/// Somebody in a browser of their own, logged in.
struct Person {
    browser: Browser,
}

impl Person {
    /// Opens the page and logs in by its form.
    fn log_in(secure: &Secure, name: &str) -> Option<Self> {
        let browser = secure.browser()?;
        browser.open(&secure.site);
        let person = Self { browser };
        person.fill_in(name, &format!("{name}-password"));
        person.wait_until_user_is(name);
        Some(person)
    }

    fn fill_in(&self, name: &str, password: &str) {
        until("the form is there", || self.is_form_there().then_some(()));
        self.browser.type_into("name", name);
        self.browser.type_into("password", password);
        self.browser.click("login");
    }

    fn wait_until_user_is(&self, name: &str) {
        until(&format!("{name} is logged in"), || {
            (!self.is_form_there() && self.browser.text("user") == name).then_some(())
        });
    }

    fn is_form_there(&self) -> bool {
        !self.is_hidden("login")
    }

    fn is_hidden(&self, id: &str) -> bool {
        let script = "return document.getElementById(arguments[0]).hidden";
        self.browser.run(script, &json!(id)) == json!(true)
    }

    /// Connects by a button, `by-cookie` or `by-token`, until it is on this server: they take turns.
    fn connect(&self, button: &str, server: &str) {
        until(&format!("the WebSocket is open, on {server}"), || {
            self.browser.click(button);
            until("it is open", || (self.state() == "open").then_some(()));
            self.browser.text("state").contains(server).then_some(())
        });
    }

    /// Tries to enter a room, and is told that there is no way in.
    fn cannot_enter(&self, room: &str) {
        self.browser.run(CHOOSE, &json!(room));
        self.browser.click("by-cookie");
        self.wait_until_ended_with("Refused");
    }

    fn state(&self) -> String {
        self.browser.attribute("state", "data-state")
    }

    /// What the page says of its WebSocket, also where the login form is shown instead.
    fn state_text(&self) -> String {
        let text =
            self.browser.run("return document.getElementById('state').textContent", &Value::Null);
        text.as_str().expect("a text").to_owned()
    }

    /// Waits until its WebSocket has ended, and checks what the page says of it.
    fn wait_until_ended_with(&self, code: &str) {
        until("the WebSocket has ended", || (self.state() == "ended").then_some(()));
        let why = self.state_text();
        assert!(why.contains(code), "{code} is expected: {why}");
    }

    fn say(&self, text: &str) {
        self.browser.type_into("text", text);
        self.browser.click("send");
    }

    fn wait_until_it_shows(&self, text: &str) {
        until(&format!("{text:?} is shown"), || {
            self.browser.text("messages").lines().any(|line| line == text).then_some(())
        });
    }

    /// What a script of the page gets for it: `open`, or the code of its close.
    fn open_websocket(&self, url: &str) -> String {
        let outcome = self.browser.run(OPEN, &json!(url));
        outcome.as_str().expect("the script says what happened").to_owned()
    }
}

#[test]
fn its_files_are_right_with_the_keys_that_its_script_makes() {
    let Some(files) = Files::make() else { return };
    for name in ["edge.toml", "server1.toml", "server2.toml"] {
        files.run(env!("CARGO_BIN_EXE_tidewire"), &["check", "--strict", "-c", name]);
    }
}

#[test]
fn two_people_log_in_and_hear_each_other_over_two_servers() {
    let Some(secure) = Secure::start(&[]) else { return };
    let (Some(ann), Some(bob)) = (Person::log_in(&secure, "ann"), Person::log_in(&secure, "bob"))
    else {
        return;
    };
    ann.connect("by-cookie", "server1");
    bob.connect("by-token", "server2");
    ann.say("hello from the first");
    bob.wait_until_it_shows("hello from the first");
    bob.say("hello yourself, <b>first</b>");
    ann.wait_until_it_shows("hello yourself, <b>first</b>");
    for person in [&ann, &bob] {
        // A 401 says to the page that nobody is logged in yet.
        let errors = person.browser.errors();
        let errors: Vec<_> = errors.iter().filter(|it| !it.contains("/api/me")).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }

    ann.browser.click("too-long");
    ann.wait_until_ended_with("1009");
    ann.connect("by-token", "server1");
    ann.say("x");
    bob.wait_until_it_shows("x");
    bob.cannot_enter("team:sea");
    bob.cannot_enter("elsewhere");
}

#[test]
fn a_wrong_password_gets_nobody_in_and_does_not_say_why() {
    let Some(secure) = Secure::start(&[]) else { return };
    let show = "%{http_code}";
    for form in ["user=ann&password=bob-password", "user=eve&password=eve-password", "user=ann", ""]
    {
        let answer = secure.curl("/login", show, &["-d", form]);
        assert_eq!(answer, "wrong user or password\n401", "{form}");
    }
    let long = format!("user=ann&password={}", "x".repeat(5000));
    assert_eq!(secure.curl("/login", show, &["-d", &long]), "the form is too long\n413");
    let good = ["-d", "user=ann&password=ann-password"];
    assert_eq!(secure.curl("/login", show, &good), "204");
    for (origin, status) in [("https://evil.example", "403"), (secure.site.as_str(), "204")] {
        let origin = format!("Origin: {origin}");
        let answer = secure.curl("/login", show, &[&good[..], &["-H", &origin]].concat());
        assert!(answer.ends_with(status), "{origin}: {answer}");
    }
}

#[test]
fn nobody_gets_in_by_http_or_without_a_token_or_under_another_name() {
    let Some(secure) = Secure::start(&[]) else { return };
    let show = "%{http_code} %{redirect_url}";
    let args = ["-s", "-o", "/dev/null", "-w", show];
    let plain = format!("{}/ws/lobby", secure.plain);
    let sent_on = secure.files.run("curl", &[&args[..], &[&plain]].concat());
    assert_eq!(sent_on, format!("308 {}/ws/lobby", secure.site));

    let status = |path: &str, more: &[&str]| {
        secure.curl(path, "%{http_code}", &[&["-o", "/dev/null"], more].concat())
    };
    assert_eq!(status("/ws/lobby", HANDSHAKE), "401");
    let forged = ["-H", "X-User: ann", "-H", "x_user: ann", "-H", "X-Session-Ends: 9999999999"];
    for path in ["/api/me", "/api/ticket"] {
        assert_eq!(status(path, &[]), "401", "{path}");
        assert_eq!(status(path, &forged), "401", "{path}");
    }
    assert_eq!(status("/API/me", &forged), "404");
    let headers = secure.curl("/", "", &["-o", "/dev/null", "-D", "-"]).to_lowercase();
    for header in ["strict-transport-security: max-age=300", "content-security-policy: default-src"]
    {
        assert!(headers.contains(header), "no {header} in {headers}");
    }
}

#[test]
fn a_page_of_another_site_gets_in_only_where_it_is_listed() {
    let Some(mut secure) = Secure::start(&[]) else { return };
    let Some(ann) = Person::log_in(&secure, "ann") else { return };
    let lobby = secure.websocket("lobby");
    assert_eq!(ann.open_websocket(&lobby), "open");
    let ticket = format!("{}/api/ticket", secure.site);
    let unlisted = free_port();
    for (port, outcome, can_read) in [(unlisted, "1006", false), (secure.listed, "open", true)] {
        // The cookie comes along, as the host is the same: it is the origin that differs.
        let _other = secure.other_site(port);
        ann.browser.open(&format!("https://localhost:{port}/"));
        assert_eq!(ann.open_websocket(&lobby), outcome, "from {port}");
        assert_eq!(ann.browser.run(CAN_READ, &json!(ticket)), json!(can_read), "from {port}");
    }
    secure.edge.log_line(&["status=403", "fault=\"origin_foreign\""]);
}

#[test]
fn logging_out_closes_all_of_ones_websockets_on_both_servers_and_nobody_elses() {
    let Some(secure) = Secure::start(&[]) else { return };
    let [Some(here), Some(there), Some(bob)] =
        ["ann", "ann", "bob"].map(|name| Person::log_in(&secure, name))
    else {
        return;
    };
    here.connect("by-cookie", "server1");
    there.connect("by-token", "server2");
    bob.connect("by-cookie", "server2");
    here.browser.click("logout");
    for window in [&here, &there] {
        window.wait_until_ended_with("3003");
        // The other window has a cookie still, and it is worth nothing any more.
        until("the form is there", || window.is_form_there().then_some(()));
    }
    assert_eq!(there.open_websocket(&secure.websocket("lobby")), "1006");
    bob.say("alone now");
    bob.wait_until_it_shows("alone now");

    here.fill_in("ann", "ann-password");
    here.wait_until_user_is("ann");
    here.connect("by-cookie", "server2");
    here.say("back again");
    bob.wait_until_it_shows("back again");
}

#[test]
fn a_session_that_ends_ends_its_websockets() {
    let Some(secure) = Secure::start(&[("SESSION_SECONDS", "15")]) else { return };
    let Some(ann) = Person::log_in(&secure, "ann") else { return };
    ann.connect("by-token", "server1");
    ann.wait_until_ended_with("3000");
    until("the form is there", || ann.is_form_there().then_some(()));
}

#[test]
fn a_page_whose_token_has_ended_comes_back_with_a_newer_one() {
    let Some(mut secure) = Secure::start(&[("TICKET_SECONDS", "3")]) else { return };
    let Some(ann) = Person::log_in(&secure, "ann") else { return };
    ann.connect("by-token", "server1");
    // By the edge or by the server, whichever is quicker.
    secure.edge.log_line(&["route=\"chat\"", "code=3000"]);
    until("it is open, on the other server", || {
        ann.browser.text("state").contains("server2").then_some(())
    });
    assert!(!ann.is_form_there());
}

const CHOOSE: &str = "document.getElementById('room').value = arguments[0]";

const OPEN: &str = "return new Promise((resolve) => {
    const socket = new WebSocket(arguments[0], 'tidewire.v1');
    socket.onopen = () => { resolve('open'); socket.close(); };
    socket.onclose = ({ code }) => resolve(String(code));
})";

/// Whether a script can read what is there for who is logged in.
const CAN_READ: &str = "return fetch(arguments[0], { credentials: 'include' })
    .then((answer) => answer.json()).then((it) => Boolean(it.token), () => false)";

const HANDSHAKE: &[&str] = &[
    "-H",
    "Connection: Upgrade",
    "-H",
    "Upgrade: websocket",
    "-H",
    "Sec-WebSocket-Version: 13",
    "-H",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
