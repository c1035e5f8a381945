//! `cargo xtask arrows`: which modules of a crate use which, on how many floors they stand, and
//! whether any uses a module above it.
//!
//! A crate's rooms are the modules at its top, files or folders. An arrow leads from a room to each
//! that its code names; test code does not count. The root declares the others and is no room. A
//! room stands one floor above the highest that it uses.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use petgraph::algo::{greedy_feedback_arc_set, tarjan_scc};
use petgraph::graph::DiGraph;
use petgraph::graphmap::DiGraphMap;
use petgraph::visit::EdgeRef;

use crate::paths;

/// The crates that the image is made of, from the top down.
const CRATES: [&str; 17] = [
    "boot",
    "svm",
    "vmx",
    "vmm-core",
    "xen",
    "net",
    "console",
    "config",
    "control",
    "emulator",
    "handover",
    "host-acpi",
    "firmware",
    "devices",
    "drivers",
    "block",
    "ept",
];

/// The most floors of a crate.
const MAX_FLOORS: usize = 6;

/// A crate's rooms, and what is wrong with them.
#[derive(Debug, Default, PartialEq, Eq)]
struct House {
    /// The rooms of each floor, the lowest first.
    floors: Vec<Vec<String>>,
    /// Rooms that use each other, each circle by itself.
    circles: Vec<Vec<String>>,
    /// The fewest arrows (about) without which there were no circle: from, to.
    up: Vec<(String, String)>,
}

impl House {
    fn new(arrows: &BTreeMap<String, BTreeSet<String>>) -> Self {
        let mut graph = DiGraphMap::<&str, ()>::new();
        for (from, to) in arrows {
            graph.add_node(from);
            to.iter().filter(|to| *to != from).for_each(|to| _ = graph.add_edge(from, to, ()));
        }
        let sorted = |mut names: Vec<&str>| {
            names.sort_unstable();
            names.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let circles =
            tarjan_scc(&graph).into_iter().filter(|rooms| rooms.len() > 1).map(sorted).collect();
        let numbered: DiGraph<&str, ()> = graph.clone().into_graph();
        let up: Vec<(&str, &str)> = greedy_feedback_arc_set(&numbered)
            .map(|arrow| (numbered[arrow.source()], numbered[arrow.target()]))
            .collect();
        for (from, to) in &up {
            graph.remove_edge(from, to);
        }
        let mut floors: Vec<Vec<&str>> = Vec::new();
        let mut left: Vec<&str> = graph.nodes().collect();
        while !left.is_empty() {
            let (above, here): (Vec<_>, Vec<_>) = left
                .iter()
                .copied()
                .partition(|room| graph.neighbors(room).any(|below| left.contains(&below)));
            floors.push(here);
            left = above;
        }
        let owned = |(from, to): (&str, &str)| (from.to_owned(), to.to_owned());
        let mut up: Vec<_> = up.into_iter().map(owned).collect();
        up.sort();
        Self { floors: floors.into_iter().map(sorted).collect(), circles, up }
    }

    fn print(&self, name: &str, arrows: &BTreeMap<String, BTreeSet<String>>) {
        println!("{name}: {} rooms on {} floors", arrows.len(), self.floors.len());
        for (number, floor) in self.floors.iter().enumerate().rev() {
            for room in floor {
                let used =
                    arrows[room].iter().filter(|to| *to != room).cloned().collect::<Vec<_>>();
                println!("  {}  {room}: {}", number + 1, used.join(", "));
            }
        }
        for (from, to) in &self.up {
            println!("  arrow up: {from} uses {to}");
        }
        for circle in &self.circles {
            println!("  circle: {}", circle.join(", "));
        }
    }
}

/// Prints the floors, arrows up and circles of each crate, or without `show` of those with a fault.
///
/// # Errors
/// If there is an arrow up or a crate of too many floors, or a source file cannot be read.
pub fn check(show: bool) -> Result<()> {
    let mut faults = Vec::new();
    for name in CRATES {
        let source = paths::root().join(name).join("src");
        let arrows = source::arrows(&root_file(&source)?).with_context(|| name.to_owned())?;
        let house = House::new(&arrows);
        let is_right = house.up.is_empty() && house.floors.len() <= MAX_FLOORS;
        if show || !is_right {
            house.print(name, &arrows);
        }
        if !is_right {
            faults.push(name);
        }
    }
    ensure!(
        faults.is_empty(),
        "arrows up, or more than {MAX_FLOORS} floors, in: {}",
        faults.join(", ")
    );
    Ok(())
}

fn root_file(source: &Path) -> Result<std::path::PathBuf> {
    let roots = ["lib.rs", "main.rs"].map(|name| source.join(name));
    let found = roots.into_iter().find(|file| file.is_file());
    found.with_context(|| format!("{} has no crate", source.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(arrows: &[(&str, &[&str])]) -> House {
        let set = |to: &[&str]| to.iter().map(|name| (*name).to_owned()).collect();
        House::new(&arrows.iter().map(|(from, to)| ((*from).to_owned(), set(to))).collect())
    }

    #[test]
    fn a_room_stands_above_what_it_uses() {
        let house = house(&[("a", &["b", "c", "a"]), ("b", &["c"]), ("c", &[]), ("d", &["c"])]);
        assert_eq!(house.floors, [vec!["c"], vec!["b", "d"], vec!["a"]]);
        assert_eq!((house.up, house.circles), (vec![], Vec::<Vec<String>>::new()));
    }

    #[test]
    fn a_circle_is_found_and_has_an_arrow_up() {
        let house = house(&[("a", &["b"]), ("b", &["c"]), ("c", &["a", "d"]), ("d", &[])]);
        assert_eq!(house.circles, [["a", "b", "c"]]);
        assert_eq!(house.up.len(), 1);
        assert!(house.floors.len() >= 3);
    }
}
