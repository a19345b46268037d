//! Whether this machine runs on its battery, as far as the system tells.

use std::{fs, path::Path};

/// Where Linux tells of batteries; elsewhere there is no such folder, and nothing is known.
const SUPPLIES: &str = "/sys/class/power_supply";

/// The most supplies that are looked at.
const SUPPLIES_MAX: usize = 32;

/// Whether a battery of this machine is being used up. Blocking, for the time of a few reads of what
/// the kernel has in memory.
pub(super) fn is_on_battery() -> bool {
    is_discharging(Path::new(SUPPLIES))
}

fn is_discharging(supplies: &Path) -> bool {
    let Ok(found) = fs::read_dir(supplies) else {
        return false;
    };
    found.take(SUPPLIES_MAX).flatten().any(|supply| {
        let says = |what: &str| fs::read_to_string(supply.path().join(what)).unwrap_or_default();
        // One with the scope "Device" is that of a mouse or a headset.
        says("type").trim() == "Battery"
            && says("scope").trim() != "Device"
            && says("status").trim() == "Discharging"
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_a_battery_of_the_machine_that_is_used_up_counts() {
        let check = |files: &[(&str, &str)], expected| {
            let folder = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = folder.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, format!("{text}\n")).unwrap();
            }
            assert_eq!(is_discharging(folder.path()), expected, "{files:?}");
        };
        check(&[], false);
        check(&[("AC/type", "Mains"), ("AC/online", "1")], false);
        let battery = ("BAT0/type", "Battery");
        check(&[battery, ("BAT0/status", "Discharging")], true);
        check(&[battery, ("BAT0/status", "Charging")], false);
        check(&[battery, ("BAT0/status", "Full")], false);
        let mouse = ("BAT0/scope", "Device");
        check(&[battery, mouse, ("BAT0/status", "Discharging")], false);
        assert!(!is_discharging(Path::new("/nowhere/at/all")));
    }
}
