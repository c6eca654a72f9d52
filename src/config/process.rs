//! What the process may do on its machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which user the process runs as, and whether its memory may be written to a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessConfig {
    /// The user, by name or number, that the process becomes once its addresses are bound, before
    /// any client is accepted; it has to be started as root then. Files that are read again later,
    /// such as those of TLS, must be readable for that user. `root` stays root.
    pub user: Option<String>,
    /// The group, by name or number; the user's own when it is not set. It is the only one.
    pub group: Option<String>,
    /// Whether a crash may leave an image of the memory, with keys and tokens in it, and processes
    /// of the same user may look at it.
    pub core_dumps: bool,
}
