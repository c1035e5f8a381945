//! The decision: what is used of a processor's means.

use super::guest::GuestSpeculation;
use super::{Defences, Means, ReturnStack, spec_ctrl};
use config::command_line::SpecCtrl;

impl Defences {
    /// The defences of a processor: what it needs, but where the command line says otherwise. A
    /// means that it lacks is not used whatever is said.
    pub fn new(means: &Means, choices: &SpecCtrl) -> Self {
        let own = choices.own.unwrap_or(true);
        let chosen = |choice: Option<bool>, needed: bool| choice.unwrap_or(own && needed);
        let ibrs = chosen(choices.ibrs, true);
        let automatic_ibrs = ibrs && means.has_automatic_ibrs();
        let set_ibrs = ibrs && means.has_ibrs() && !automatic_ibrs;
        let enhanced = set_ibrs && means.has_enhanced_ibrs();
        let stibp = means.has_stibp() && chosen(choices.stibp, means.prefers_stibp_on());
        let bits = [
            (set_ibrs, spec_ctrl::IBRS),
            (stibp, spec_ctrl::STIBP),
            (means.has_ssbd() && chosen(choices.ssbd, false), spec_ctrl::SSBD),
            (means.has_psfd() && chosen(choices.psfd, false), spec_ctrl::PSFD),
            (
                means.has_bhi_control() && chosen(choices.bhi, means.needs_bhi_control()),
                spec_ctrl::BHI_DIS_S,
            ),
        ];
        let host_control = bits.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit);
        let always_on = means.prefers_ibrs_on();
        let kept = spec_ctrl::STIBP | if always_on { spec_ctrl::IBRS } else { 0 };
        let return_stack = match (automatic_ibrs, enhanced) {
            (true, _) => ReturnStack::Kept,
            (_, true) if means.needs_last_return() => ReturnStack::Last,
            (_, true) => ReturnStack::Kept,
            (false, false) => ReturnStack::All,
        };
        let return_stack = match choices.rsb {
            Some(true) => ReturnStack::All,
            None if own => return_stack,
            Some(false) | None => ReturnStack::Kept,
        };
        let l1d_flush = means.has_l1d_flush() && chosen(choices.l1d_flush, means.needs_l1d_flush());
        // A processor that empties its cache overwrites its buffers too.
        let verw = means.has_verw() && chosen(choices.verw, means.needs_verw() && !l1d_flush);
        let guest = match choices.guests {
            Some(false) => GuestSpeculation::default(),
            Some(true) | None => GuestSpeculation::new(means),
        };
        Self {
            has_control: host_control != 0 || guest.control != 0,
            host_control,
            kept_control: host_control & kept,
            renews_control: set_ibrs && !enhanced && !always_on,
            automatic_ibrs,
            guest_barrier: means.has_ibpb() && chosen(choices.ibpb, true),
            exit_barrier: means.has_ibpb()
                && chosen(choices.ibpb_entry, means.needs_exit_barrier()),
            reduced_speculation: own && means.needs_reduced_speculation(),
            return_stack,
            verw,
            l1d_flush,
            clears_registers: own,
            serializing_lfence: own && means.needs_serializing_lfence(),
            guest,
        }
    }
}
