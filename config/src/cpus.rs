//! Sets of the machine's CPUs, as the keys `cpus` and `cpus_soft` of xl.cfg(5) name them.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// CPUs have lower numbers.
const MAX_CPUS: u32 = 4096;

/// A set of CPUs: `all`, numbers, ranges, and with `^` what is left out of those before.
///
/// ```
/// use config::cpus::CpuList;
///
/// let list = CpuList::parse("0-3,5,^1").unwrap();
/// assert_eq!((0..8).filter(|&cpu| list.contains(cpu)).collect::<Vec<_>>(), [0, 2, 3, 5]);
/// assert!(CpuList::parse("1-").is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<Item>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    cpus: RangeInclusive<u32>,
    is_left_out: bool,
}

impl CpuList {
    /// Reads a list; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|item| Item::parse(item.trim())).collect::<Option<_>>().map(Self)
    }

    /// True if CPU `cpu` is in it.
    pub fn contains(&self, cpu: u32) -> bool {
        let last = self.0.iter().rev().find(|item| item.cpus.contains(&cpu));
        last.is_some_and(|item| !item.is_left_out)
    }
}

impl Item {
    fn parse(text: &str) -> Option<Self> {
        let (is_left_out, text) = match text.strip_prefix('^') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let number = |text: &str| {
            let number: Option<u32> = text.trim().parse().ok();
            number.filter(|&cpu| cpu < MAX_CPUS)
        };
        let cpus = match text.split_once('-') {
            _ if text == "all" => 0..=MAX_CPUS - 1,
            Some((first, last)) => number(first)?..=number(last)?,
            None => number(text)?..=number(text)?,
        };
        (!cpus.is_empty()).then_some(Self { cpus, is_left_out })
    }
}

/// The CPUs of each of a guest's vCPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VcpuCpus {
    /// All of the machine's.
    #[default]
    All,
    /// The same for all of them.
    Same(CpuList),
    /// Of the first vCPUs; those beyond have all.
    Each(Vec<CpuList>),
}

impl VcpuCpus {
    /// Reads the value of the key: one string for all vCPUs, or a list with one for each.
    ///
    /// # Errors
    /// The string that names no CPUs.
    pub fn parse(texts: &[String], is_list: bool) -> Result<Self, String> {
        let parse = |text: &String| CpuList::parse(text).ok_or_else(|| text.clone());
        let mut lists = texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        Ok(match (is_list, lists.pop()) {
            (_, None) => Self::All,
            (false, Some(list)) => Self::Same(list),
            (true, Some(last)) => {
                lists.push(last);
                Self::Each(lists)
            }
        })
    }

    /// Those of vCPU `vcpu`; `None` for all.
    pub fn of(&self, vcpu: usize) -> Option<&CpuList> {
        match self {
            Self::All => None,
            Self::Same(list) => Some(list),
            Self::Each(lists) => lists.get(vcpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(text: &str) -> Option<Vec<u32>> {
        let list = CpuList::parse(text)?;
        Some((0..10).filter(|&cpu| list.contains(cpu)).collect())
    }

    #[test]
    fn the_forms_of_the_manual_page() {
        for (text, expected) in [
            ("all", Vec::from_iter(0..10)),
            ("0-3,5,^1", Vec::from([0, 2, 3, 5])),
            ("all,^0-6", Vec::from([7, 8, 9])),
            (" 2 , 4 - 5 ", Vec::from([2, 4, 5])),
            // Later items count.
            ("^1,0-2", Vec::from([0, 1, 2])),
            ("^1", Vec::new()),
        ] {
            assert_eq!(cpus(text), Some(expected), "{text}");
        }
        for text in ["", "x", "1-", "3-1", "-1", "1,,2", "4096", "node:0", "99999999999"] {
            assert_eq!(cpus(text), None, "{text}");
        }
    }

    #[test]
    fn vcpus_have_one_set_or_each_its_own() {
        let text = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect::<Vec<String>>();
        let same = VcpuCpus::parse(&text(&["2"]), false).unwrap();
        assert!(same.of(7).unwrap().contains(2));
        let each = VcpuCpus::parse(&text(&["2", "3-8,^5"]), true).unwrap();
        assert!(each.of(0).unwrap().contains(2) && each.of(1).unwrap().contains(8));
        assert_eq!(each.of(2), None);
        assert_eq!(VcpuCpus::parse(&text(&["2", "two"]), true), Err("two".into()));
    }
}
