//! The fields of a VMCS and their encodings (SDM volume 3, appendix B).

macro_rules! fields {
    ($($name:ident = $encoding:literal,)*) => {
        /// A field of the VMCS.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs, clippy::enum_variant_names)]
        pub enum Field { $($name,)* }

        impl Field {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            const ENCODINGS: &'static [u32] = &[$($encoding,)*];
        }
    };
}

fields! {
    Vpid = 0x0000,
    PostedVector = 0x0002,
    GuestEsSelector = 0x0800,
    GuestCsSelector = 0x0802,
    GuestSsSelector = 0x0804,
    GuestDsSelector = 0x0806,
    GuestFsSelector = 0x0808,
    GuestGsSelector = 0x080a,
    GuestLdtrSelector = 0x080c,
    GuestTrSelector = 0x080e,
    GuestInterruptStatus = 0x0810,
    GuestPageLogIndex = 0x0812,
    HostEsSelector = 0x0c00,
    HostCsSelector = 0x0c02,
    HostSsSelector = 0x0c04,
    HostDsSelector = 0x0c06,
    HostFsSelector = 0x0c08,
    HostGsSelector = 0x0c0a,
    HostTrSelector = 0x0c0c,
    MsrBitmap = 0x2004,
    ExitMsrLoadAddress = 0x2008,
    EntryMsrLoadAddress = 0x200a,
    PageLogAddress = 0x200e,
    TscOffset = 0x2010,
    VirtualApicPage = 0x2012,
    ApicAccessPage = 0x2014,
    PostedDescriptor = 0x2016,
    EptPointer = 0x201a,
    EoiExit0 = 0x201c,
    EoiExit1 = 0x201e,
    EoiExit2 = 0x2020,
    EoiExit3 = 0x2022,
    XssExiting = 0x202c,
    GuestPhysicalAddress = 0x2400,
    LinkPointer = 0x2800,
    GuestDebugCtl = 0x2802,
    GuestPat = 0x2804,
    GuestEfer = 0x2806,
    GuestPdpte0 = 0x280a,
    GuestPdpte1 = 0x280c,
    GuestPdpte2 = 0x280e,
    GuestPdpte3 = 0x2810,
    HostPat = 0x2c00,
    HostEfer = 0x2c02,
    PinControls = 0x4000,
    PrimaryControls = 0x4002,
    ExceptionBitmap = 0x4004,
    PageFaultMask = 0x4006,
    PageFaultMatch = 0x4008,
    Cr3TargetCount = 0x400a,
    ExitControls = 0x400c,
    ExitMsrStoreCount = 0x400e,
    ExitMsrLoadCount = 0x4010,
    EntryControls = 0x4012,
    EntryMsrLoadCount = 0x4014,
    EntryInterruption = 0x4016,
    EntryErrorCode = 0x4018,
    EntryInstructionLength = 0x401a,
    TprThreshold = 0x401c,
    SecondaryControls = 0x401e,
    PauseLoopGap = 0x4020,
    PauseLoopWindow = 0x4022,
    InstructionError = 0x4400,
    ExitReason = 0x4402,
    ExitInterruption = 0x4404,
    ExitErrorCode = 0x4406,
    VectoringInfo = 0x4408,
    VectoringErrorCode = 0x440a,
    ExitInstructionLength = 0x440c,
    ExitInstructionInfo = 0x440e,
    GuestEsLimit = 0x4800,
    GuestCsLimit = 0x4802,
    GuestSsLimit = 0x4804,
    GuestDsLimit = 0x4806,
    GuestFsLimit = 0x4808,
    GuestGsLimit = 0x480a,
    GuestLdtrLimit = 0x480c,
    GuestTrLimit = 0x480e,
    GuestGdtrLimit = 0x4810,
    GuestIdtrLimit = 0x4812,
    GuestEsRights = 0x4814,
    GuestCsRights = 0x4816,
    GuestSsRights = 0x4818,
    GuestDsRights = 0x481a,
    GuestFsRights = 0x481c,
    GuestGsRights = 0x481e,
    GuestLdtrRights = 0x4820,
    GuestTrRights = 0x4822,
    GuestInterruptibility = 0x4824,
    GuestActivity = 0x4826,
    GuestSysenterCs = 0x482a,
    GuestPreemptionTimer = 0x482e,
    HostSysenterCs = 0x4c00,
    Cr0Mask = 0x6000,
    Cr4Mask = 0x6002,
    Cr0Shadow = 0x6004,
    Cr4Shadow = 0x6006,
    ExitQualification = 0x6400,
    GuestLinearAddress = 0x640a,
    GuestCr0 = 0x6800,
    GuestCr3 = 0x6802,
    GuestCr4 = 0x6804,
    GuestEsBase = 0x6806,
    GuestCsBase = 0x6808,
    GuestSsBase = 0x680a,
    GuestDsBase = 0x680c,
    GuestFsBase = 0x680e,
    GuestGsBase = 0x6810,
    GuestLdtrBase = 0x6812,
    GuestTrBase = 0x6814,
    GuestGdtrBase = 0x6816,
    GuestIdtrBase = 0x6818,
    GuestDr7 = 0x681a,
    GuestRsp = 0x681c,
    GuestRip = 0x681e,
    GuestRflags = 0x6820,
    GuestPendingDebug = 0x6822,
    GuestSysenterEsp = 0x6824,
    GuestSysenterEip = 0x6826,
    HostCr0 = 0x6c00,
    HostCr3 = 0x6c02,
    HostCr4 = 0x6c04,
    HostFsBase = 0x6c06,
    HostGsBase = 0x6c08,
    HostTrBase = 0x6c0a,
    HostGdtrBase = 0x6c0c,
    HostIdtrBase = 0x6c0e,
    HostSysenterEsp = 0x6c10,
    HostSysenterEip = 0x6c12,
    HostRsp = 0x6c14,
    HostRip = 0x6c16,
}

/// The area of a field: bits 10 and 11 of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Settings of the hypervisor's.
    Control,
    /// Information about an exit.
    ExitInformation,
    /// The guest's registers.
    Guest,
    /// The hypervisor's registers after an exit.
    Host,
}

impl Field {
    /// How many fields there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The number by which VMREAD and VMWRITE know the field.
    #[inline(always)]
    pub const fn encoding(self) -> u32 {
        Self::ENCODINGS[self as usize]
    }

    /// The field's area.
    pub const fn area(self) -> Area {
        match self.encoding() >> 10 & 3 {
            0 => Area::Control,
            1 => Area::ExitInformation,
            2 => Area::Guest,
            _ => Area::Host,
        }
    }

    /// Whether the processor may change it while the guest runs. Of the controls it changes two: it
    /// clears the valid bit of the event to inject, and keeps the IA-32e-mode control equal to
    /// EFER.LMA (28.2).
    pub const fn is_volatile(self) -> bool {
        match self.area() {
            Area::Guest | Area::ExitInformation => true,
            Area::Control => matches!(self, Self::EntryControls | Self::EntryInterruption),
            Area::Host => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_listed_once_in_the_order_of_their_encodings() {
        for pair in Field::ALL.windows(2) {
            assert!(pair[0].encoding() < pair[1].encoding(), "{pair:?}");
        }
    }

    #[test]
    fn names_agree_with_the_area_in_the_encoding() {
        for &field in Field::ALL {
            let name = std::format!("{field:?}");
            let area = field.area();
            if name.starts_with("Host") {
                assert_eq!(area, Area::Host, "{name}");
            } else if name.starts_with("Guest")
                && !name.starts_with("GuestPhysical")
                && !name.starts_with("GuestLinear")
            {
                assert_eq!(area, Area::Guest, "{name}");
            } else if name.starts_with("Vectoring") {
                assert_eq!(area, Area::ExitInformation, "{name}");
            }
        }
    }
}
