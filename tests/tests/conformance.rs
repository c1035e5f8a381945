//! The conformance guests on every machine: the two backends and the hardware are one machine.

use tests::Result;
use xtask::conformance;

#[test]
fn conformance_guests_find_the_same_machine_everywhere() -> Result<()> {
    conformance::check_everything()
}
