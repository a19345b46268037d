//! The links of a testnet in a build that emulates none.

use shoal_net::emulation::Plan;

use crate::{args::UpArgs, output::Text};

/// None is planned.
pub(super) fn planned(_args: &UpArgs) -> Option<Plan> {
    None
}

/// There is nothing to show.
pub(super) fn show_first(_text: &mut Text, plan: &Plan) {
    match *plan {}
}

/// There is nothing to show.
pub(super) fn show(_text: &mut Text, plan: &Plan) {
    match *plan {}
}
