//! `spec-ctrl=`, as in Xen: which defences against speculative execution are used. A list of
//! booleans, separated by commas.

use super::parse_flag;
use alloc::format;
use alloc::string::String;

/// The choices of `spec-ctrl=`. `None` leaves it to what the processor needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecCtrl {
    /// The hypervisor defends itself and its guests (`xen`).
    pub own: Option<bool>,
    /// Guests have the registers to defend themselves (`msr-sc`).
    pub guests: Option<bool>,
    /// Indirect branches are restricted while the hypervisor runs.
    pub ibrs: Option<bool>,
    /// A barrier for branch predictors when a CPU goes to another guest.
    pub ibpb: Option<bool>,
    /// That barrier at each exit (`ibpb-entry`: the entry to the hypervisor).
    pub ibpb_entry: Option<bool>,
    /// Threads of a core do not share branch predictors, whatever runs there.
    pub stibp: Option<bool>,
    /// The hypervisor's loads do not bypass stores.
    pub ssbd: Option<bool>,
    /// The hypervisor's loads are not forwarded from predicted stores.
    pub psfd: Option<bool>,
    /// Branch history of guests does not choose the hypervisor's branch targets (`bhi-dis-s`).
    pub bhi: Option<bool>,
    /// The first-level data cache is emptied before each entry.
    pub l1d_flush: Option<bool>,
    /// The processor's buffers are overwritten before each entry (`md-clear`).
    pub verw: Option<bool>,
    /// The return stack is filled after each exit.
    pub rsb: Option<bool>,
}

impl SpecCtrl {
    /// Adds the choices of a list. The first one that is not understood is named; the others hold.
    pub(super) fn add(&mut self, list: &str) -> Result<(), String> {
        let mut outcome = Ok(());
        for choice in list.split(',') {
            let chosen = self.choose(choice);
            outcome = outcome.and(chosen);
        }
        outcome
    }

    fn choose(&mut self, choice: &str) -> Result<(), String> {
        match choice {
            "yes" | "on" | "true" | "enable" | "1" => {
                *self = Self::default();
                return Ok(());
            }
            "no" | "off" | "false" | "disable" | "0" => {
                *self = Self { own: Some(false), guests: Some(false), ..Self::default() };
                return Ok(());
            }
            _ => {}
        }
        let (name, value) = match (choice.split_once('='), choice.strip_prefix("no-")) {
            (Some((name, value)), _) => (name, parse_switch(value)),
            (None, Some(name)) => (name, Ok(false)),
            (None, None) => (choice, Ok(true)),
        };
        let switch = match name {
            "xen" => &mut self.own,
            "hvm" => {
                let value = Some(value?);
                (self.guests, self.rsb, self.verw, self.ibpb_entry) = (value, value, value, value);
                return Ok(());
            }
            "msr-sc" => &mut self.guests,
            "ibrs" => &mut self.ibrs,
            "ibpb" => &mut self.ibpb,
            "ibpb-entry" => &mut self.ibpb_entry,
            "stibp" => &mut self.stibp,
            "ssbd" => &mut self.ssbd,
            "psfd" => &mut self.psfd,
            "bhi-dis-s" => &mut self.bhi,
            "l1d-flush" => &mut self.l1d_flush,
            "md-clear" | "verw" => &mut self.verw,
            "rsb" => &mut self.rsb,
            _ => return Err(format!("{choice} is not a defence that can be chosen")),
        };
        *switch = Some(value?);
        Ok(())
    }
}

/// A boolean, or the name of the kind of guests that it is for: there is one kind.
fn parse_switch(value: &str) -> Result<bool, String> {
    match value {
        "hvm" => Ok(true),
        "no-hvm" => Ok(false),
        _ => parse_flag(Some(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> SpecCtrl {
        let mut choices = SpecCtrl::default();
        choices.add(list).unwrap();
        choices
    }

    const OFF: SpecCtrl = SpecCtrl {
        own: Some(false),
        guests: Some(false),
        ibrs: None,
        ibpb: None,
        ibpb_entry: None,
        stibp: None,
        ssbd: None,
        psfd: None,
        bhi: None,
        l1d_flush: None,
        verw: None,
        rsb: None,
    };

    #[test]
    fn one_word_is_for_all() {
        assert_eq!(parse("yes"), SpecCtrl::default());
        assert_eq!(parse("no"), OFF);
        assert_eq!(parse("off,on"), SpecCtrl::default());
        assert_eq!(parse("no-xen"), SpecCtrl { guests: None, ..OFF });
        assert_eq!(parse("xen=0"), parse("no-xen"));
        let hvm = parse("no-hvm");
        assert_eq!((hvm.guests, hvm.rsb, hvm.own), (Some(false), Some(false), None));
    }

    #[test]
    fn each_defence_has_its_switch() {
        type Switch = fn(&SpecCtrl) -> Option<bool>;
        let switches: [(&str, Switch); 13] = [
            ("xen", |choices| choices.own),
            ("msr-sc", |choices| choices.guests),
            ("ibrs", |choices| choices.ibrs),
            ("ibpb", |choices| choices.ibpb),
            ("ibpb-entry", |choices| choices.ibpb_entry),
            ("stibp", |choices| choices.stibp),
            ("ssbd", |choices| choices.ssbd),
            ("psfd", |choices| choices.psfd),
            ("bhi-dis-s", |choices| choices.bhi),
            ("l1d-flush", |choices| choices.l1d_flush),
            ("md-clear", |choices| choices.verw),
            ("verw", |choices| choices.verw),
            ("rsb", |choices| choices.rsb),
        ];
        for (name, switch) in switches {
            for (choice, value) in [
                (name.into(), true),
                (format!("no-{name}"), false),
                (format!("{name}=off"), false),
                (format!("{name}=yes"), true),
                (format!("{name}=no-hvm"), false),
                (format!("no-{name},{name}=hvm"), true),
            ] {
                assert_eq!(switch(&parse(&choice)), Some(value), "{choice}");
            }
            let others = switches.iter().filter(|(_, other)| other(&parse(name)).is_some());
            assert!(others.count() <= 2, "{name}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named_and_the_rest_holds() {
        for (list, problem) in [
            ("rsb,bti-thunk=jmp,no-ibrs", "bti-thunk=jmp is not a defence that can be chosen"),
            ("rsb,ibpb=maybe,no-ibrs", "maybe is neither yes nor no"),
            ("rsb,pv=no,,no-ibrs", "pv=no is not a defence that can be chosen"),
        ] {
            let mut choices = SpecCtrl::default();
            assert_eq!(choices.add(list), Err(problem.into()));
            assert_eq!(choices, parse("rsb,no-ibrs"), "{list}");
        }
    }
}
