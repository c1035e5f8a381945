//! The vCPUs in the DSDT, and how they come and go: with QEMU's register block for that
//! ([`devices::cpu_hotplug`]) and a general-purpose event.

use acpi_tables::Aml;
use acpi_tables::aml::{
    Acquire, Add, Arg, BufferData, Equal, Field, FieldAccessType, FieldEntry, FieldLockRule,
    FieldUpdateRule, If, LessThan, Local, Method, MethodCall, Mutex, Name, Notify, OpRegion,
    OpRegionSpace, Path, Release, Return, Scope, Store, While,
};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use devices::cpu_hotplug::{EVENT, PORT, PORTS};

use super::aml::Terms;
use super::dsdt::device;
use super::tables::local_apic;
use crate::MachineDescription;

/// The values of Notify: look whether it is there; give it up.
const DEVICE_CHECK: u8 = 1;
const EJECT_REQUEST: u8 = 3;
/// `_STA`: present, enabled, shown, working.
const THERE: u8 = 0x0f;
const FOR_EVER: u16 = 0xffff;

/// A device for each vCPU; `_UID` is its number in the MADT. If there may be several they have the
/// methods to come and go by.
pub fn processors(machine: &MachineDescription) -> Terms {
    let several = machine.apic_ids.len() > 1;
    let mut terms = Terms::new();
    for (uid, &id) in (0..).zip(&machine.apic_ids) {
        let (hid, number) = (Name::new("_HID".into(), &"ACPI0007"), Name::new("_UID".into(), &uid));
        let mut children = Terms::new().with(&hid).with(&number);
        if several {
            children.push(&method("_STA", 0, &[&Return::new(&call("CSTA", &[&uid]))]));
            let entry = BufferData::new(local_apic(uid, id, true));
            children.push(&Name::new("_MAT".into(), &entry));
        }
        // The first one stays.
        if uid > 0 {
            children.push(&method("_EJ0", 1, &[&call("CEJT", &[&uid])]));
        }
        terms.push(&device(&name(uid), &[&children]));
    }
    if several {
        terms.push(&registers());
        terms.push(&methods(machine.apic_ids.len() as u32));
    }
    terms
}

/// The handler of the event.
pub fn event() -> Terms {
    let handler = method(&format!("_E{EVENT:02}"), 0, &[&call("\\_SB_.CSCN", &[])]);
    Terms::new().with(&Scope::new("\\_GPE".into(), Vec::from([&handler as &dyn Aml])))
}

fn name(uid: u32) -> String {
    format!("C{:03X}", uid & 0xfff)
}

/// A method, which others do not interrupt.
fn method(name: &str, arguments: u8, terms: &[&dyn Aml]) -> Terms {
    Terms::new().with(&Method::new(name.into(), arguments, true, terms.to_vec()))
}

fn call(method: &str, arguments: &[&dyn Aml]) -> Terms {
    Terms::new().with(&MethodCall::new(method.into(), arguments.to_vec()))
}

/// The register block: the selected CPU, its status, and a lock for the two.
fn registers() -> Terms {
    const STATUS_BIT: usize = 4 * 8;
    let field = |access, update, entries| {
        Field::new("PRST".into(), access, FieldLockRule::NoLock, update, entries)
    };
    Terms::new()
        .with(&Mutex::new("CPLK".into(), 0))
        .with(&OpRegion::new("PRST".into(), OpRegionSpace::SystemIO, &PORT, &PORTS))
        .with(&field(
            FieldAccessType::DWord,
            FieldUpdateRule::Preserve,
            Vec::from([FieldEntry::Named(*b"CSEL", 32)]),
        ))
        .with(&field(
            FieldAccessType::Byte,
            FieldUpdateRule::WriteAsZeroes,
            Vec::from([
                FieldEntry::Reserved(STATUS_BIT),
                FieldEntry::Named(*b"CPEN", 1),
                FieldEntry::Named(*b"CINS", 1),
                FieldEntry::Named(*b"CRMV", 1),
                FieldEntry::Named(*b"CEJ0", 1),
                FieldEntry::Reserved(4),
            ]),
        ))
}

/// `CSTA`: a CPU's status. `CEJT`: it goes. `CTFY`: the system hears of it. `CSCN`: of all that
/// came or are to go.
fn methods(count: u32) -> Terms {
    let acquire = Acquire::new("CPLK".into(), FOR_EVER);
    let release = Release::new("CPLK".into());
    let (selector, enabled) = (Path::new("CSEL"), Path::new("CPEN"));
    let (inserting, removing) = (Path::new("CINS"), Path::new("CRMV"));
    let (cpu, one) = (Local(0), 1u8);

    let status = method(
        "CSTA",
        1,
        &[
            &acquire,
            &Store::new(&selector, &Arg(0)),
            &Store::new(&Local(0), &0u8),
            &If::new(&enabled, Vec::from([&Store::new(&Local(0), &THERE) as &dyn Aml])),
            &release,
            &Return::new(&Local(0)),
        ],
    );
    let eject = method(
        "CEJT",
        1,
        &[
            &acquire,
            &Store::new(&selector, &Arg(0)),
            &Store::new(&Path::new("CEJ0"), &one),
            &release,
        ],
    );
    let mut notices = Terms::new();
    for uid in 0..count {
        let device = Path::new(&name(uid));
        let notice = Notify::new(&device, &Arg(1));
        notices.push(&If::new(&Equal::new(&Arg(0), &uid), Vec::from([&notice as &dyn Aml])));
    }
    let notify = method("CTFY", 2, &[&notices]);
    // The register is read in a new state each time: the guest knows, once it is written.
    let tell = |what: &Path, event: u8| {
        let notify = call("CTFY", &[&cpu, &event]);
        let known = Store::new(what, &one);
        Terms::new().with(&If::new(what, Vec::from([&notify as &dyn Aml, &known])))
    };
    let scan = method(
        "CSCN",
        0,
        &[
            &acquire,
            &Store::new(&cpu, &0u8),
            &While::new(
                &LessThan::new(&cpu, &count),
                Vec::from([
                    &Store::new(&selector, &cpu) as &dyn Aml,
                    &tell(&inserting, DEVICE_CHECK),
                    &tell(&removing, EJECT_REQUEST),
                    &Add::new(&cpu, &cpu, &one),
                ]),
            ),
            &release,
        ],
    );
    Terms::new().with(&status).with(&eject).with(&notify).with(&scan)
}
