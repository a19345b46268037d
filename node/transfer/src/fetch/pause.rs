//! Why transfers rest.

use serde::{Deserialize, Serialize};

/// Why a transfer rests although it could go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pause {
    /// Somebody asked for it.
    Asked,
    /// Nobody waited for it any more.
    Interrupted,
    /// The node was stopped; the next daemon goes on with it.
    Stopped,
    /// Something was in the way that may not be there next time.
    Problem(String),
    /// Nobody was found that has it, or nobody delivers: a daemon looks again, and goes on once
    /// somebody does.
    NoProvider(String),
}

impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Asked => "asked to pause",
            Self::Interrupted => "interrupted",
            Self::Stopped => "the node was stopped",
            Self::Problem(what) => what,
            Self::NoProvider(what) => {
                return write!(
                    f,
                    "{what}; a daemon goes on by itself once a provider is found"
                );
            }
        })
    }
}
