//! `cargo xtask image`: what boots Bulkhead and a guest by GRUB, on BIOS and UEFI machines: an ISO
//! for CD, USB stick or disk, or a folder for PXE.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::guests::Guest;
use crate::{build, paths, progress, setup};

/// How GRUB starts the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Loader {
    /// By multiboot2, in a graphics mode where there is one
    #[default]
    Multiboot2,
    /// By multiboot 1, in text mode, on BIOS machines only: Bochs has no graphics modes that GRUB
    /// can set
    Text,
}

/// The kind of medium that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `build/bulkhead.iso`: a CD-ROM, and with its partition tables a disk too.
    Iso,
    /// `build/netboot`: a folder for a TFTP server.
    Netboot,
}

/// The file that PXE loads first, in the folder of [`Form::Netboot`], on BIOS machines.
pub const NETBOOT_BIOS: &str = "boot/grub/i386-pc/core.0";
/// The same on UEFI machines.
pub const NETBOOT_UEFI: &str = "boot/grub/x86_64-efi/core.efi";

/// The content of an image.
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
    pub fn write_iso(&self, tree: &Path, output: &Path) -> Result<()> {
        self.fill(tree)?;
        let mut command = Command::new("grub-mkrescue");
        if self.loader == Loader::Text {
            command.args(["-d", "/usr/lib/grub/i386-pc"]);
        }
        command.arg("-o").arg(output).arg(tree);
        progress::run_logged("Making the bootable ISO", "image-iso", &mut command)
    }

    /// Puts everything into `tree`, with the programs by which PXE starts.
    ///
    /// # Errors
    /// If a file or a program is missing.
    pub fn write_netboot(&self, tree: &Path) -> Result<()> {
        self.fill(tree)?;
        for platform in ["i386-pc", "x86_64-efi"] {
            let mut command = Command::new("grub-mknetdir");
            command.arg("--net-directory").arg(tree).args(["--subdir", "boot/grub"]);
            command.arg("-d").arg(format!("/usr/lib/grub/{platform}"));
            progress::run_logged(
                &format!("Making GRUB for PXE, {platform}"),
                "image-netboot",
                &mut command,
            )?;
        }
        Ok(())
    }

    fn fill(&self, tree: &Path) -> Result<()> {
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
        Ok(())
    }

    /// GRUB's configuration.
    fn menu(&self) -> String {
        let (top, image, module) = match self.loader {
            Loader::Multiboot2 => {
                ("set timeout=2\ninsmod all_video\nset gfxpayload=keep\n", "multiboot2", "module2")
            }
            Loader::Text => ("set timeout=0\n", "multiboot", "module"),
        };
        let mut menu = format!(
            "{top}menuentry \"Bulkhead\" {{\n    {image} /boot/bulkhead {}\n",
            self.cmdline
        );
        for (number, (_, name)) in self.modules.iter().enumerate() {
            menu += &format!("    {module} /boot/module{number} {name}\n");
        }
        menu + "}\n"
    }
}

/// Makes what `form` says of the image, the guest's ISO (a small Linux if none is given) and its
/// xl.cfg.
///
/// # Errors
/// If a file or a program is missing.
pub fn make(
    form: Form,
    iso: Option<&Path>,
    config: Option<&Path>,
    cmdline: &str,
    loader: Loader,
) -> Result<PathBuf> {
    for file in iso.iter().chain(&config) {
        ensure!(file.is_file(), "no file {}", file.display());
    }
    setup::require(&[setup::BUILD, setup::GUESTS, setup::IMAGE])?;
    let image = build::image()?;
    let guest = iso.map_or_else(|| Guest::LinuxAmd64.iso(), |iso| Ok(iso.to_path_buf()))?;
    let mut modules = vec![(guest, "guest.iso".to_owned())];
    modules.extend(config.map(|file| (file.to_path_buf(), "guest.cfg".to_owned())));
    let contents = Contents { image: &image, cmdline, modules: &modules, loader };
    match form {
        Form::Iso => {
            let output = paths::build("bulkhead.iso");
            contents.write_iso(&paths::empty_build_folder("image-tree")?, &output)?;
            Ok(output)
        }
        Form::Netboot => {
            let folder = paths::empty_build_folder("netboot")?;
            contents.write_netboot(&folder)?;
            Ok(folder)
        }
    }
}
