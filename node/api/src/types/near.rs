//! How near peers are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How near a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Nearness {
    /// On the same local network.
    Lan,
    /// It answers within `replicas.near`.
    Near,
    /// It answers later.
    Far,
}
