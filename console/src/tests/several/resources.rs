//! Memory, virtual CPUs and shares of CPU time.

use super::drivers::{Drivers, with_drivers};
use super::*;
use core::sync::atomic::Ordering;

#[test]
fn memory_is_set_with_the_sizes_and_messages_of_xl() {
    const NO_DRIVERS: &str = "Domain 1:Cannot get target memory info from \
        /local/domain/1/memory/target\r\n\
        cannot set domid 1 dynamic max memory to : 64\r\n";
    const TOO_MUCH: &str = "Domain 2:memory_dynamic_max must be less than or equal to \
        memory_static_max\r\ncannot set domid 2 dynamic max memory to : 131073K\r\n";
    const TOO_LITTLE: &str = "Domain 2:memory_static_max must be greater than or or equal to \
        memory_dynamic_max\r\ncannot set domid 2 static max memory to : 65535k\r\n";
    let mut bench = Several::new(2);
    let drivers = Arc::new(Drivers::default());
    let mut ports = bench.guests[1].0.ports.clone();
    ports.pv = Some(drivers.clone());
    bench.consoles.attach(2, ports);
    bench.types(SWITCH);
    bench.types(SWITCH);
    for (command, answer, memory_kib) in [
        ("mem-set two 128", "", [128 << 10; 2]),
        ("mem-set two 131073K", TOO_MUCH, [128 << 10; 2]),
        ("mem-set two 65536k", "", [64 << 10; 2]),
        ("mem-max two 65535k", TOO_LITTLE, [64 << 10; 2]),
        ("mem-max two 1g", "", [64 << 10, 1 << 20]),
        ("mem-max two 1T", "", [64 << 10, 1 << 30]),
        ("mem-set two 33554432b", "", [32 << 10; 2]),
        ("mem-set two 32M", "", [32 << 10; 2]),
        ("mem-set two 5x", "invalid memory size: 5x\r\n", [32 << 10; 2]),
        ("mem-set two 5mb", "invalid memory size: 5mb\r\n", [32 << 10; 2]),
        ("mem-max two -5", "invalid memory size: -5\r\n", [32 << 10; 2]),
        ("mem-max two 99999999999999t", "invalid memory size: 99999999999999t\r\n", [32 << 10; 2]),
        ("mem-set two", "invalid memory size: two\r\n", [32 << 10; 2]),
        ("mem-set", "Usage: mem-set DOM SIZE\r\n", [32 << 10; 2]),
        ("mem-set one 64", NO_DRIVERS, [32 << 10; 2]),
    ] {
        assert_eq!(answers(&mut bench, command), answer, "{command}");
        assert_eq!(*drivers.memory_kib.lock().unwrap(), memory_kib, "{command}");
    }
    assert_eq!(bench.call("guest.set_memory", json!({"guest": 2, "kib": 49152})), json!({}));
    assert_eq!(bench.call("guest.list", json!({"guest": 2}))[0]["memory_mib"], 48);
    assert_eq!(bench.call("guest.set_max_memory", json!({"guest": 2, "kib": 50000})), json!({}));
    assert_eq!(*drivers.memory_kib.lock().unwrap(), [49152, 50000]);
}

#[test]
fn virtual_cpus_are_listed_and_pinned_as_xl_does() {
    const HEADER: &str = "Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)\r\n";
    let mut bench = Several::at_prompt(2);
    let rows = |first: &str, second: &str| {
        format!(
            "{HEADER}\
             two                                  2     0     0   r--       0.6  {first}\r\n\
             two                                  2     1     1   -b-       0.6  {second}\r\n\
             two                                  2     2     -   --p       0.0  all / all\r\n\
             two                                  2     3     -   --p       0.0  all / all\r\n"
        )
    };
    assert_eq!(answers(&mut bench, "vcpu-list two"), rows("all / all", "all / all"));
    assert_eq!(answers(&mut bench, "vcpu-list").lines().count(), 9);
    assert_eq!(answers(&mut bench, "vcpu-list two one"), answers(&mut bench, "vcpu-list 2 1"));
    let unknown = "three is an invalid domain identifier (rc=-6)\r\n";
    assert_eq!(answers(&mut bench, "vcpu-list one three"), unknown);
    for (command, answer) in [
        ("vcpu-pin two 1 0-1 2", ""),
        ("vcpu-pin two 0 - 1", ""),
        ("vcpu-pin two 1 -", ""),
        ("vcpu-pin two 4 1", "Could not set affinity for vcpu `4'.\r\n"),
        ("vcpu-pin two 1 7", "Could not set affinity for vcpu `1'.\r\n"),
        ("vcpu-pin two all 3-5", "Could not set affinity.\r\n"),
        ("vcpu-pin two x 1", "Error: Invalid argument x as VCPU.\r\n"),
        ("vcpu-pin two 1 1-", "Error: Invalid argument 1- as CPUs.\r\n"),
        ("vcpu-pin two 1", "Usage: vcpu-pin DOM VCPU|all HARD [SOFT]\r\n"),
    ] {
        assert_eq!(answers(&mut bench, command), answer, "{command}");
    }
    assert_eq!(answers(&mut bench, "vcpu-list two"), rows("all / 1", "0-1 / 2"));
    answers(&mut bench, "vcpu-pin two all all all");
    assert_eq!(answers(&mut bench, "vcpu-list two"), rows("all / all", "all / all"));
    let pinned = bench.call("guest.pin", json!({"guest": 2, "vcpu": 1, "hard": "0,2"}));
    assert_eq!(pinned, json!({}));
    let vcpus = bench.call("guest.vcpus", json!({"guest": 2}));
    assert_eq!((&vcpus[1]["hard"], &vcpus[1]["soft"]), (&json!([0, 2]), &json!([0, 1, 2])));
    assert_eq!((&vcpus[1]["state"], &vcpus[2]["state"]), (&json!("blocked"), &json!("offline")));
    let wrong = bench.call("guest.pin", json!({"guest": 2, "hard": "x"}));
    assert_eq!(wrong, "hard must be a list of CPUs");
}

#[test]
fn shares_are_shown_and_changed_as_xl_does() {
    const HEADER: &str = "Name                                ID Weight  Cap\r\n";
    let mut bench = Several::at_prompt(2);
    for (command, answer) in [
        ("sched-credit2 -d two -w 512", ""),
        ("sched-credit2 -d two -c 150", ""),
        ("sched-credit2 -s", "Cpupool Pool-0: ratelimit=1000us\r\n"),
        ("sched-credit2 -w 512", "Must specify a domain.\r\n"),
        (
            "sched-credit2 -d two -w 0",
            "Domain 2:Cpu weight out of range, valid values are within range from 1 to 65535\r\n\
             libxl_domain_sched_params_set failed.\r\n",
        ),
        (
            "sched-credit2 -d two -c 401",
            "Domain 2:Cpu cap out of range, valid range is from 0 to 400 for specified number of \
             vcpus\r\nlibxl_domain_sched_params_set failed.\r\n",
        ),
        (
            "sched-credit2 -d two -w x",
            "Usage: sched-credit2 [-s] [-d DOM [-w WEIGHT] [-c CAP]]\r\n",
        ),
        ("sched-credit2 -d", "Usage: sched-credit2 [-s] [-d DOM [-w WEIGHT] [-c CAP]]\r\n"),
    ] {
        assert_eq!(answers(&mut bench, command), answer, "{command}");
    }
    let (one, two) = (
        "one                                  1    256    0\r\n",
        "two                                  2    512  150\r\n",
    );
    assert_eq!(answers(&mut bench, "sched-credit2 -d two"), format!("{HEADER}{two}"));
    assert_eq!(
        answers(&mut bench, "sched-credit2"),
        format!("Cpupool Pool-0: ratelimit=1000us\r\n{HEADER}{one}{two}")
    );
    assert_eq!(bench.call("guest.set_share", json!({"guest": 1, "weight": 100})), json!({}));
    let shares = bench.call("guest.share", json!({}));
    assert_eq!((&shares[0]["weight"], &shares[1]["cap"]), (&json!(100), &json!(150)));
}

#[test]
fn virtual_cpus_are_plugged_in_and_asked_back() {
    let mut bench = Several::at_prompt(2);
    for (command, answer) in [
        (
            "vcpu-set two 4",
            "You are overcommmitting! You have 3 physical CPUs and want 4 vCPUs! Aborting, use --ignore-host to continue\r\n",
        ),
        ("vcpu-set two 3", ""),
        ("vcpu-set 3", "several guests run, say which: one (1), two (2)\r\n"),
        ("vcpu-set two x", "Error: Invalid argument.\r\n"),
        ("vcpu-set", "Usage: vcpu-set [-i] DOM N\r\n"),
        (
            "vcpu-set -i two 5",
            "Domain 2:Requested 5 VCPUs, however maxcpus is 4!\r\n\
             libxl_set_vcpuonline failed domid=2 max_vcpus=5, rc: -3\r\n",
        ),
        (
            "vcpu-set two 0",
            "Domain 2:Requested 0 VCPUs!\r\n\
             libxl_set_vcpuonline failed domid=2 max_vcpus=0, rc: -3\r\n",
        ),
    ] {
        assert_eq!(answers(&mut bench, command), answer, "{command}");
    }
    let counts = |bench: &mut Several| {
        let listed = bench.call("guest.list", json!({}));
        [0, 1].map(|index| listed[index]["vcpus"].as_u64().unwrap())
    };
    assert_eq!(counts(&mut bench), [2, 3]);
    assert_eq!(bench.call("guest.set_vcpus", json!({"guest": "two", "count": 1})), json!({}));
    assert_eq!(counts(&mut bench), [2, 3], "the guest has not let them go");
    assert_eq!(bench.guests[1].0.ports.sockets.wanted(), 1);
}

#[test]
fn pv_drivers_are_told_of_virtual_cpus_that_there_can_be() {
    let (mut bench, drivers, _) = with_drivers();
    for (count, told) in [(3, 3), (1, 1), (99, 1)] {
        bench.call("guest.set_vcpus", json!({"guest": 1, "count": count}));
        assert_eq!(drivers.vcpus.load(Ordering::Relaxed), told);
    }
}
