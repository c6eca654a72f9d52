//! `[[auth]]`: how clients say who they are.
//!
//! To add a method: a table here, a variant of `method::Method`, its name in [`METHODS`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::header::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::{Period, Size};

use crate::forward::ForwardConfig;
use crate::jwt::algorithm::Algorithm;
use crate::place::Place;
use crate::secret::Secret;
use crate::template::ClaimTemplate;

/// How clients say who they are, for routes to refer to: exactly one method, such as `jwt`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Its name, by which routes refer to it; unique.
    pub name: String,
    /// Method: a JSON Web Token.
    pub jwt: Option<JwtConfig>,
    /// Method: a service of one's own is asked.
    pub forward: Option<ForwardConfig>,
    /// Method: a key that programs send.
    pub api_key: Option<ApiKeyConfig>,
    /// Method: a name and a password (HTTP Basic).
    pub basic: Option<BasicConfig>,
    /// Method: the certificate of the client's TLS handshake.
    pub client_cert: Option<ClientCertConfig>,
    /// Whether servers get the credential as the client has sent it. Otherwise it is taken out of
    /// the request.
    #[serde(default)]
    pub pass: bool,
    /// Headers that servers get, with names of claims in braces; without the claim, there is no
    /// header. Whatever clients send under the name of such a header of any `[[auth]]` is removed
    /// from every request on every route.
    #[serde(default)]
    pub headers: BTreeMap<String, ClaimTemplate>,
}

/// The keys of an `[[auth]]` that are methods.
pub const METHODS: [&str; 5] = ["jwt", "forward", "api_key", "basic", "client_cert"];

/// JSON Web Tokens that are signed, checked with exactly one of `secret`, `secret_file`, `key` and
/// `jwks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwtConfig {
    /// A secret that is shared with whoever makes the tokens, of at least 32 bytes. It belongs into
    /// the environment: `"${NAME}"`.
    pub secret: Option<Secret>,
    /// A file with such a secret; a line break at its end is not part of it. It is read again when
    /// it changes.
    pub secret_file: Option<PathBuf>,
    /// A PEM file with a public key or a certificate. It is read again when it changes.
    pub key: Option<PathBuf>,
    /// A key set (RFC 7517): an `https://` or `http://` URL, or a file.
    pub jwks: Option<String>,
    /// The algorithms that are accepted; when it is empty, all that the keys are for. A token never
    /// has a say in it.
    pub algorithms: Vec<Algorithm>,
    /// The issuers (`iss`) whose tokens are accepted; when it is empty, whoever has the key.
    pub issuer: Vec<String>,
    /// The audiences (`aud`) that this edge is one of. When it is empty, tokens for an audience are
    /// refused, and `"*"` accepts any.
    pub audience: Vec<String>,
    /// The `typ` that tokens must have, such as `at+jwt`; any when it is not set.
    pub typ: Option<String>,
    /// Claims that tokens must have, whatever their value.
    pub require: Vec<String>,
    /// How far the clock of whoever makes the tokens may be off.
    pub leeway: Period,
    /// Whether tokens without an `exp` are accepted. They are good until the key changes or they
    /// are revoked.
    pub allow_no_expiry: bool,
    /// The longest token.
    pub max_bytes: Size,
    /// Where in a request the token may be; the first place that has one counts.
    pub from: Vec<Place>,
    /// How often a key set is fetched; the `max-age` of its answer makes that more often.
    pub refresh: Period,
    /// The least time between two fetches: also when tokens name keys that are not known.
    pub min_refresh: Period,
    /// How long the keys of the last good fetch are used while fetches fail.
    pub stale: Period,
    /// How long a fetch may take, and a token with a key that is not known may wait for one.
    pub timeout: Period,
    /// A PEM file with the certificates that the server of the key set is trusted by, instead of
    /// those of the system.
    pub ca: Option<PathBuf>,
}

/// The keys of a `jwt` that say where its keys are.
pub const JWT_KEYS: [&str; 4] = ["secret", "secret_file", "key", "jwks"];

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            secret: None,
            secret_file: None,
            key: None,
            jwks: None,
            algorithms: Vec::new(),
            issuer: Vec::new(),
            audience: Vec::new(),
            typ: None,
            require: Vec::new(),
            leeway: Period::from_secs(30),
            allow_no_expiry: false,
            max_bytes: Size(8 << 10),
            from: vec![Place::Authorization, Place::Subprotocol("bearer".into())],
            refresh: Period::from_secs(600),
            min_refresh: Period::from_secs(10),
            stale: Period::from_secs(86_400),
            timeout: Period::from_secs(5),
            ca: None,
        }
    }
}

/// Keys that programs send, from exactly one of `file` and `key`. The subject is the key's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeyConfig {
    /// A file with a line `name:sha256` for each key; a JSON object of claims may follow after a
    /// blank. `tidewire token key` makes keys and lines. It is read again when it changes.
    pub file: Option<PathBuf>,
    /// The only key, of at least 16 bytes, by the name of this `[[auth]]`. It belongs into the
    /// environment: `"${NAME}"`.
    pub key: Option<Secret>,
    /// Where in a request the key may be; the first place that has one counts.
    pub from: Vec<Place>,
}

/// The keys of an `api_key` that say where its keys are.
pub const API_KEY_KEYS: [&str; 2] = ["file", "key"];

impl Default for ApiKeyConfig {
    fn default() -> Self {
        let from = vec![Place::Header(HeaderName::from_static("x-api-key"))];
        Self { file: None, key: None, from }
    }
}

/// Names and passwords. The subject is the name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicConfig {
    /// A file with a line `name:$argon2id$...` for each user; a JSON object of claims may follow
    /// after a blank. `tidewire token password` makes lines. It is read again when it changes.
    pub users: PathBuf,
}

/// The certificate of the client, which the listener asks for and verifies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientCertConfig {
    /// The name in the certificate that is the subject.
    pub subject: SubjectFrom,
}

/// A name in a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubjectFrom {
    /// The common name.
    #[default]
    #[serde(rename = "cn")]
    Cn,
    /// The first DNS name among the alternative names.
    #[serde(rename = "san:dns")]
    SanDns,
    /// The first URI among the alternative names, such as a SPIFFE ID.
    #[serde(rename = "san:uri")]
    SanUri,
    /// The first mail address among the alternative names.
    #[serde(rename = "san:email")]
    SanEmail,
}
