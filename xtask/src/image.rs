//! `cargo xtask image`: an ISO that boots Bulkhead and a guest by GRUB, on BIOS and UEFI machines, from CD or USB stick.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::guests::Guest;
use crate::{build, paths, progress, setup};

/// How GRUB starts the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Loader {
    /// By multiboot2, in a graphics mode where there is one
    #[default]
    Multiboot2,
    /// By multiboot 1, in text mode, on BIOS machines only: Bochs has no graphics modes that GRUB can set
    Text,
}

/// What goes into an ISO.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The hypervisor's image.
    pub image: &'a Path,
    /// Its command line.
    pub cmdline: &'a str,
    /// Files to load beside it, and the names that they have then.
    pub modules: &'a [(PathBuf, String)],
    /// How GRUB starts it.
    pub loader: Loader,
}

impl Contents<'_> {
    /// Puts everything into `tree` and makes the ISO `output` of it.
    ///
    /// # Errors
    /// If a file or a program is missing.
    pub fn write(&self, tree: &Path, output: &Path) -> Result<()> {
        setup::require(&[setup::IMAGE])?;
        std::fs::create_dir_all(tree.join("boot/grub"))?;
        let copy = |from: &Path, name: &str| {
            let to = tree.join("boot").join(name);
            std::fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))
        };
        copy(self.image, "bulkhead")?;
        for (number, (source, _)) in self.modules.iter().enumerate() {
            copy(source, &format!("module{number}"))?;
        }
        std::fs::write(tree.join("boot/grub/grub.cfg"), self.menu())?;
        let mut command = Command::new("grub-mkrescue");
        if self.loader == Loader::Text {
            command.args(["-d", "/usr/lib/grub/i386-pc"]);
        }
        command.arg("-o").arg(output).arg(tree);
        progress::run_logged("Making the bootable ISO", "image-iso", &mut command)
    }

    /// GRUB's configuration.
    fn menu(&self) -> String {
        let (top, image, module) = match self.loader {
            Loader::Multiboot2 => {
                ("set timeout=2\ninsmod all_video\nset gfxpayload=keep\n", "multiboot2", "module2")
            }
            Loader::Text => ("set timeout=0\n", "multiboot", "module"),
        };
        let mut menu =
            format!("{top}menuentry \"Bulkhead\" {{\n    {image} /boot/bulkhead {}\n", self.cmdline);
        for (number, (_, name)) in self.modules.iter().enumerate() {
            menu += &format!("    {module} /boot/module{number} {name}\n");
        }
        menu + "}\n"
    }
}

/// Makes `build/bulkhead.iso` of the image, the guest's ISO (a small Linux if none is given) and its xl.cfg.
///
/// # Errors
/// If a file or a program is missing.
pub fn make(iso: Option<&Path>, config: Option<&Path>, cmdline: &str, loader: Loader) -> Result<PathBuf> {
    let image = build::image()?;
    let guest = iso.map_or_else(|| Guest::LinuxAmd64.iso(), |iso| Ok(iso.to_path_buf()))?;
    let mut modules = vec![(guest, "guest.iso".to_owned())];
    modules.extend(config.map(|file| (file.to_path_buf(), "guest.cfg".to_owned())));
    let tree = paths::empty_build_folder("image-tree")?;
    let output = paths::build("bulkhead.iso");
    Contents { image: &image, cmdline, modules: &modules, loader }.write(&tree, &output)?;
    Ok(output)
}
