//! A real Chromium, driven by chromedriver over WebDriver.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::Child;
use crate::deadline::{SLOW_PROGRAM, until_within};
use crate::http::Response;
use crate::peer::Peer;
use crate::port::{free_port, loopback};
use crate::skip;

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    driver: SocketAddr,
    session: String,
    _child: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; `None`, said aloud, when it is not installed.
    #[track_caller]
    pub fn start() -> Option<Self> {
        Self::start_by(Command::new("chromedriver"), &[])
    }

    /// As [`Browser::start`], with more arguments for Chromium.
    #[track_caller]
    pub fn start_with(more: &[&str]) -> Option<Self> {
        Self::start_by(Command::new("chromedriver"), more)
    }

    /// As [`Browser::start`], of a user whose home this is: what that trusts, it trusts.
    #[track_caller]
    pub fn start_at_home(home: &Path) -> Option<Self> {
        let mut command = Command::new("chromedriver");
        command.env("HOME", home);
        Self::start_by(command, &[])
    }

    #[track_caller]
    fn start_by(mut command: Command, more: &[&str]) -> Option<Self> {
        if !skip::has("chromium") || !skip::has("chromedriver") {
            return None;
        }
        let driver = loopback(free_port());
        command.arg(format!("--port={}", driver.port()));
        let child = Child::spawn(command);
        until_within(SLOW_PROGRAM, "chromedriver listens", || Peer::try_connect(driver).ok());
        let profile = tempfile::tempdir().expect("a temporary directory");
        let mut arguments = vec![
            "--headless=new",
            // There is no user namespace for its sandbox where tests run as root.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            // The page must not take itself for one in the background, whose timers are slow.
            "--disable-background-timer-throttling",
            "--disable-renderer-backgrounding",
            "--disable-backgrounding-occluded-windows",
            "--disable-background-networking",
            "--no-first-run",
        ];
        arguments.extend(more);
        let profile_dir = format!("--user-data-dir={}", profile.path().display());
        arguments.push(&profile_dir);
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments, "binary": "/usr/bin/chromium" },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let made = ask(driver, "POST", "/session", &capabilities);
        let session = made["sessionId"].as_str().expect("a session has an id").to_owned();
        Some(Self { driver, session, _child: child, _profile: profile })
    }

    #[track_caller]
    pub fn open(&self, url: &str) {
        self.command("POST", "url", &json!({ "url": url }));
    }

    /// Runs the body of a function in the page; `arguments[0]` is `argument`.
    #[track_caller]
    pub fn run(&self, script: &str, argument: &Value) -> Value {
        self.command("POST", "execute/sync", &json!({ "script": script, "args": [argument] }))
    }

    /// Types into the part of the page with this test id, as a person does: focus, then keys.
    #[track_caller]
    pub fn type_into(&self, test_id: &str, text: &str) {
        let element = self.element(test_id);
        self.command("POST", &format!("element/{element}/clear"), &json!({}));
        self.command("POST", &format!("element/{element}/value"), &json!({ "text": text }));
    }

    #[track_caller]
    pub fn click(&self, test_id: &str) {
        let element = self.element(test_id);
        self.command("POST", &format!("element/{element}/click"), &json!({}));
    }

    /// The text of a part, as a person sees it.
    #[track_caller]
    pub fn text(&self, test_id: &str) -> String {
        let element = self.element(test_id);
        let text = self.command("GET", &format!("element/{element}/text"), &Value::Null);
        text.as_str().expect("a text").to_owned()
    }

    /// An attribute of a part; empty when it has none.
    #[track_caller]
    pub fn attribute(&self, test_id: &str, name: &str) -> String {
        let element = self.element(test_id);
        let path = format!("element/{element}/attribute/{name}");
        self.command("GET", &path, &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// Writes what the browser shows to a PNG.
    #[track_caller]
    pub fn screenshot(&self, path: &Path) {
        let image = self.command("GET", "screenshot", &Value::Null);
        let image = BASE64.decode(image.as_str().expect("an image")).expect("it is base64");
        std::fs::write(path, image).expect("it can be written");
    }

    /// The errors that the browser has logged so far: scripts that failed, policies that were
    /// violated.
    #[track_caller]
    pub fn errors(&self) -> Vec<String> {
        let log = self.command("POST", "se/log", &json!({ "type": "browser" }));
        let severe = log.as_array().into_iter().flatten().filter(|it| it["level"] == "SEVERE");
        severe.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[track_caller]
    fn element(&self, test_id: &str) -> String {
        let selector = json!({
            "using": "css selector",
            "value": format!("[data-testid=\"{test_id}\"]"),
        });
        let found = self.command("POST", "element", &selector);
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("no {test_id}: {found}")).to_owned()
    }

    #[track_caller]
    fn command(&self, method: &str, command: &str, body: &Value) -> Value {
        ask(self.driver, method, &format!("/session/{}/{command}", self.session), body)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session; chromedriver, and what may be left, with the child.
        if let Ok(mut peer) = Peer::try_connect(self.driver) {
            peer.wait_up_to(SLOW_PROGRAM);
            let path = format!("/session/{}", self.session);
            peer.send(request("DELETE", &path, &Value::Null));
            let _ = peer.take_until(b"\r\n\r\n");
        }
    }
}

#[track_caller]
fn ask(driver: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let mut peer = Peer::connect(driver);
    peer.wait_up_to(SLOW_PROGRAM);
    peer.send(request(method, path, body));
    let response: Response = peer.response();
    let text = response.expect(200).text();
    let mut answer: Value = serde_json::from_str(&text).expect("WebDriver answers in JSON");
    answer["value"].take()
}

fn request(method: &str, path: &str, body: &Value) -> String {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The name of an element's id in WebDriver's JSON (W3C WebDriver, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
