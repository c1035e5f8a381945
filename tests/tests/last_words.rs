//! What the hypervisor says before it stops is on the machine's screen, for machines without a serial port.

use std::time::Duration;

use tests::{Result, Spec, glyphs, start_for};
use xtask::image::{Contents, Loader};
use xtask::{build, paths};

const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn a_reason_is_drawn_on_the_framebuffer_of_a_uefi_machine() -> Result<()> {
    let contents = Contents {
        image: &build::image()?,
        cmdline: "console=none",
        modules: &[],
        loader: Loader::Multiboot2,
    };
    let iso = paths::build("without-guest.iso");
    contents.write(&paths::empty_build_folder("without-guest")?, &iso)?;
    let mut machine = start_for(&Spec { host_iso: Some(iso), uefi: true, ..Spec::default() }, PATIENCE)?;
    let picture = paths::build("last-words.png");
    while !machine.time_left().is_zero() {
        machine.pause(Duration::from_secs(1));
        machine.host_screenshot(&picture)?;
        let picture = std::fs::read(&picture)?;
        if glyphs::shows(&picture, "no module to boot")? {
            assert!(glyphs::shows(&picture, "Bulkhead cannot start; the machine has stopped")?);
            return Ok(());
        }
    }
    anyhow::bail!("the screen does not say it: see {}", picture.display())
}
