//! What stands for emulated links in a build that has none.

use std::path::Path;

use shoal_net::emulation::Plan;

use crate::Error;

/// As in a build with emulated links, whose testnets may be taken down by this one.
pub(crate) const LINKS_FILE: &str = "links.json";
pub(crate) const LINKS_STAGED_FILE: &str = ".links.json.new";

/// No links are emulated.
///
/// # Errors
/// Never.
pub fn plan_in(_dir: &Path) -> Result<Option<Plan>, Error> {
    Ok(None)
}
