//! `cargo xtask image`: an ISO that boots Bulkhead and a guest by GRUB, on BIOS and UEFI machines, from CD or USB stick.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::guests::Guest;
use crate::{build, paths, progress, setup};

/// Makes `build/bulkhead.iso` of the image, the guest's ISO (a small Linux if none is given) and its xl.cfg.
///
/// # Errors
/// If a file or a program is missing.
pub fn make(iso: Option<&Path>, config: Option<&Path>, cmdline: &str) -> Result<PathBuf> {
    setup::require(&[setup::IMAGE])?;
    let image = build::image()?;
    let guest = iso.map_or_else(|| Guest::LinuxAmd64.iso(), |iso| Ok(iso.to_path_buf()))?;
    let tree = paths::empty_build_folder("image-tree")?;
    std::fs::create_dir_all(tree.join("boot/grub"))?;
    std::fs::copy(image, tree.join("boot/bulkhead"))?;
    let mut modules = String::new();
    for (source, name) in
        std::iter::once((guest.as_path(), "guest.iso")).chain(config.map(|file| (file, "guest.cfg")))
    {
        std::fs::copy(source, tree.join("boot").join(name))
            .with_context(|| format!("cannot copy {}", source.display()))?;
        modules += &format!("    module2 /boot/{name} {name}\n");
    }
    let menu = format!(
        "set timeout=2\ninsmod all_video\nset gfxpayload=keep\nmenuentry \"Bulkhead\" {{\n    multiboot2 /boot/bulkhead {cmdline}\n{modules}}}\n"
    );
    std::fs::write(tree.join("boot/grub/grub.cfg"), menu)?;
    let output = paths::build("bulkhead.iso");
    let mut command = Command::new("grub-mkrescue");
    command.arg("-o").arg(&output).arg(&tree);
    progress::run_logged("Making the bootable ISO", "image-iso", &mut command)?;
    Ok(output)
}
