//! Events sent to a guest from outside, as `xl trigger`, `xl button-press` and `xl shutdown` send
//! them: its buttons, and signals to one of its virtual CPUs.

use control::guest::GuestPorts;

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The ACPI power button is pressed.
    Power,
    /// The ACPI sleep button is pressed.
    Sleep,
    /// A non-maskable interrupt of the virtual CPU with this number.
    Nmi(usize),
    /// INIT of the virtual CPU with this number.
    Init(usize),
    /// A reset, which is asked of the guest's owner.
    Reset,
    /// The end of ACPI's sleeping state S3, in which no guest is: they are offered none.
    S3Resume,
}

/// The guest has no virtual CPU of this number; the trigger's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoVcpu(pub &'static str);

impl Trigger {
    /// The one that xl calls `name`, for virtual CPU `vcpu`.
    pub fn by_name(name: &str, vcpu: usize) -> Option<Self> {
        Some(match name {
            "power" => Self::Power,
            "sleep" => Self::Sleep,
            "nmi" => Self::Nmi(vcpu),
            "init" => Self::Init(vcpu),
            "reset" => Self::Reset,
            "s3resume" => Self::S3Resume,
            _ => return None,
        })
    }

    /// The press of the button that xl calls `name`.
    pub fn by_button(name: &str) -> Option<Self> {
        Self::by_name(name, 0).filter(|trigger| matches!(trigger, Self::Power | Self::Sleep))
    }

    /// Sends it to the guest with these devices.
    ///
    /// # Errors
    /// [`NoVcpu`].
    pub fn send(self, ports: &GuestPorts) -> Result<(), NoVcpu> {
        let inbox = |vcpu, name| ports.processors.inbox(vcpu).ok_or(NoVcpu(name));
        match self {
            Self::Power => ports.power.press_power_button(),
            Self::Sleep => ports.power.press_sleep_button(),
            Self::Nmi(vcpu) => inbox(vcpu, "nmi")?.post_nmi(),
            Self::Init(vcpu) => inbox(vcpu, "init")?.post_init(),
            Self::Reset | Self::S3Resume => {}
        }
        Ok(())
    }
}
