//! The links of a testnet in a build that emulates none.

use shoal_net::emulation::Plan;

use super::Testnet;
use crate::Error;

impl Testnet {
    /// There is no plan to begin with.
    pub(crate) fn begin_links(&self, plan: Plan) -> Result<(), Error> {
        match plan {}
    }

    /// A node is told of none.
    pub(crate) fn links_options(&self, _index: usize) -> Vec<String> {
        Vec::new()
    }
}
