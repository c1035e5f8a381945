//! Differences from the manuals or between the machines, and which of them are known to be an
//! emulator's own fault.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::environment::{Environment, FORMS_TOPIC};
use super::results::{Outcome, Results, WHOLE_TOPIC};

/// The results of every run, by topic and environment.
pub type Runs = BTreeMap<String, BTreeMap<Environment, Results>>;

/// Which case, where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The guest.
    pub topic: String,
    /// The case.
    pub case: String,
    /// The machine.
    pub environment: Environment,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} on {}", self.topic, self.case, self.environment.name())
    }
}

/// An emulator's bug, as `tests/emulator-bugs.md` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bug {
    /// Where it shows.
    pub places: Vec<Place>,
}

/// Reads the rows of a Markdown table whose columns are topic, cases, environments and evidence. An
/// environment may name the only major version of QEMU that has the bug (`qemu@7`): of such, those
/// for `qemu_major` count.
///
/// # Errors
/// If a row is broken or has no evidence.
pub fn parse_bugs(text: &str, qemu_major: u32) -> Result<Vec<Bug>> {
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| parse_bug(row, qemu_major).with_context(|| format!("in the row {row}")))
        .collect()
}

fn parse_bug(row: &str, qemu_major: u32) -> Result<Bug> {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [topic, cases, environments, evidence] = cells[..] else {
        anyhow::bail!("it has not four columns")
    };
    ensure!(!evidence.is_empty(), "it has no evidence");
    let mut places = Vec::new();
    for environment in environments.split(',') {
        let (environment, version) = match environment.split_once('@') {
            Some((environment, version)) => (environment, version.trim().parse::<u32>()?),
            None => (environment, qemu_major),
        };
        if version != qemu_major {
            continue;
        }
        let environment =
            Environment::from_str(environment.trim(), false).map_err(anyhow::Error::msg)?;
        let place = |case: &str| Place {
            topic: topic.to_owned(),
            case: case.trim().to_owned(),
            environment,
        };
        places.extend(cases.split(',').map(place));
    }
    Ok(Bug { places })
}

/// Whether a case is listed as an emulator's bug.
pub fn is_listed(bugs: &[Bug], topic: &str, case: &str, environment: Environment) -> bool {
    let place = Place { topic: topic.to_owned(), case: case.to_owned(), environment };
    bugs.iter().any(|bug| bug.places.contains(&place))
}

/// Everything that must not be: cases that do not hold and facts that differ, but are not listed;
/// and what is listed, but did not show. Each is a line of text.
pub fn problems(runs: &Runs, bugs: &[Bug]) -> Vec<String> {
    let listed: BTreeSet<&Place> = bugs.iter().flat_map(|bug| &bug.places).collect();
    let deviations = deviations(runs, &listed);
    let unlisted = deviations.iter().filter(|(place, _)| !listed.contains(place));
    let mut problems: Vec<String> =
        unlisted.map(|(place, what)| format!("{place}: {what}")).collect();
    let was_run = |place: &&&Place| {
        runs.get(&place.topic).is_some_and(|runs| runs.contains_key(&place.environment))
    };
    let gone = listed.iter().filter(was_run).filter(|place| !deviations.contains_key(place));
    problems.extend(
        gone.map(|place| format!("{place}: listed as an emulator's bug, but it did not show")),
    );
    problems
}

/// Each place's deviations that it should not have.
fn deviations(runs: &Runs, listed: &BTreeSet<&Place>) -> BTreeMap<Place, String> {
    let mut deviations = BTreeMap::new();
    for (topic, environments) in runs {
        let cases: BTreeSet<&String> = environments.values().flat_map(BTreeMap::keys).collect();
        for case in cases {
            let place =
                |environment| Place { topic: topic.clone(), case: case.clone(), environment };
            let outcomes = || {
                environments.iter().map(|(environment, results)| (*environment, results.get(case)))
            };
            // Bochs is the more exact of the emulators; where it is wrong or has nothing to say,
            // the other one.
            let reference = outcomes()
                .filter(|(environment, outcome)| {
                    outcome.is_some() && !listed.contains(&place(*environment))
                })
                .min_by_key(|(environment, outcome)| {
                    let rank = match environment {
                        Environment::Bochs => 0,
                        Environment::Qemu => 1,
                        _ => 2,
                    };
                    (matches!(outcome, Some(Outcome::Skipped(_))), rank)
                });
            let reference = reference.and_then(|(_, outcome)| outcome);
            for (environment, outcome) in outcomes() {
                // A guest that does not run, or has nothing to test, has that case alone, and
                // nothing else has it.
                if (case == WHOLE_TOPIC) != environments[&environment].contains_key(WHOLE_TOPIC) {
                    continue;
                }
                if let Some(what) = deviation(outcome, reference)
                    .or_else(|| skipped_without_reason(topic, case, environment, environments))
                {
                    deviations.insert(place(environment), what);
                }
            }
        }
    }
    deviations
}

fn deviation(outcome: Option<&Outcome>, reference: Option<&Outcome>) -> Option<String> {
    match (outcome, reference) {
        (Some(Outcome::Failed(detail)), _) => Some(detail.clone()),
        (Some(Outcome::Value(value)), Some(Outcome::Value(reference))) if value != reference => {
            Some(format!("{value}, elsewhere {reference}"))
        }
        // It stands alone only where it fails.
        (None, Some(Outcome::Failed(_))) => None,
        (None, Some(_)) => Some("not reported, elsewhere it is".to_owned()),
        _ => None,
    }
}

/// Why a case must not be skipped under the hypervisor: where a machine without it has the same
/// processor, only what that one skips too may be; the other processors have something for every
/// case.
fn skipped_without_reason(
    topic: &str,
    case: &str,
    environment: Environment,
    environments: &BTreeMap<Environment, Results>,
) -> Option<String> {
    if environment.is_direct() {
        return None;
    }
    let Some(Outcome::Skipped(reason)) = environments[&environment].get(case) else { return None };
    // Without the hypervisor that topic has nothing for most cases. A topic that did not run to its
    // end there says nothing of any case.
    let has_cases = |counterpart: &Environment| {
        topic != "cpuid" && environments.get(counterpart).is_none_or(|results| !failed(results))
    };
    let counterpart = environment.counterpart(topic).filter(has_cases);
    let Some(counterpart) = counterpart else {
        return (topic != FORMS_TOPIC).then(|| format!("skipped: {reason}"));
    };
    let is_skipped = matches!(environments.get(&counterpart)?.get(case), Some(Outcome::Skipped(_)));
    (!is_skipped).then(|| format!("skipped: {reason}; on {} it is not", counterpart.name()))
}

/// Whether the topic did not run to its end.
fn failed(results: &Results) -> bool {
    matches!(results.get(WHOLE_TOPIC), Some(Outcome::Failed(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "words\n\n| topic | cases | environments | evidence |\n|---|---|---|---|\n";

    fn runs(cases: &[(&str, [&str; 5])]) -> Runs {
        let mut runs = Runs::new();
        let environments = runs.entry("t".to_owned()).or_default();
        for (index, environment) in (0..5).zip(Environment::value_variants()) {
            let outcome = |text: &str| match text.split_at(1) {
                ("+", _) => Outcome::Ok,
                ("-", detail) => Outcome::Failed(detail.to_owned()),
                ("~", reason) => Outcome::Skipped(reason.to_owned()),
                (_, value) => Outcome::Value(value.to_owned()),
            };
            let results = cases.iter().filter(|(_, outcomes)| !outcomes[index].is_empty());
            let results =
                results.map(|(case, outcomes)| ((*case).to_owned(), outcome(outcomes[index])));
            environments.insert(*environment, results.collect());
        }
        runs
    }

    fn bugs(rows: &str) -> Vec<Bug> {
        parse_bugs(&format!("{TABLE}{rows}"), 7).unwrap()
    }

    #[test]
    fn a_case_that_holds_everywhere_is_no_problem() {
        assert_eq!(
            problems(&runs(&[("a", ["+"; 5]), ("b", ["=1"; 5])]), &[]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn failures_differing_facts_and_missing_cases_are_problems() {
        let runs = runs(&[
            ("a", ["+", "+", "-why", "+", "+"]),
            ("b", ["=1", "=1", "=1", "=1", "=2"]),
            ("c", ["+", "+", "+", "", "+"]),
        ]);
        let expected = [
            "t a on svm-qemu: why",
            "t b on vmx-bochs: 2, elsewhere 1",
            "t c on svm-bochs: not reported, elsewhere it is",
        ];
        assert_eq!(problems(&runs, &[]), expected);
    }

    #[test]
    fn a_row_may_be_about_one_version_of_qemu() {
        let runs = runs(&[("a", ["-why", "+", "+", "+", "+"])]);
        assert_eq!(problems(&runs, &bugs("| t | a | qemu@7 | seen |\n")), Vec::<String>::new());
        assert_eq!(problems(&runs, &bugs("| t | a | qemu@10 | seen |\n")), ["t a on qemu: why"]);
        assert!(parse_bugs(&format!("{TABLE}| t | a | qemu@new | seen |\n"), 7).is_err());
    }

    #[test]
    fn the_list_excuses_what_shows_and_complains_about_what_does_not() {
        let runs = runs(&[
            ("a", ["+", "-why", "+", "-why", "-why"]),
            ("b", ["=1", "=2", "=1", "=1", "=1"]),
        ]);
        let all = "| t | a | bochs, svm-bochs, vmx-bochs | seen |\n| t | b | bochs | read |\n";
        assert_eq!(problems(&runs, &bugs(all)), Vec::<String>::new());
        let more = format!("{all}| t | a | qemu | never |\n");
        assert_eq!(
            problems(&runs, &bugs(&more)),
            ["t a on qemu: listed as an emulator's bug, but it did not show"]
        );
    }

    #[test]
    fn a_case_that_the_reference_lacks_is_a_problem_there() {
        let runs = runs(&[("a", ["+", "", "+", "+", "+"])]);
        assert_eq!(problems(&runs, &[]), ["t a on bochs: not reported, elsewhere it is"]);
    }

    #[test]
    fn a_topic_that_does_not_run_is_one_row() {
        let mut runs = runs(&[("a", ["+"; 5]), ("b", ["=1"; 5])]);
        let failed =
            Results::from([(WHOLE_TOPIC.to_owned(), Outcome::Failed("does not run".into()))]);
        runs.get_mut("t").unwrap().insert(Environment::SvmBochs, failed);
        assert_eq!(problems(&runs, &bugs("| t | * | svm-bochs | seen |\n")), Vec::<String>::new());
        assert_eq!(problems(&runs, &[]), ["t * on svm-bochs: does not run"]);
    }

    #[test]
    fn a_topic_that_did_not_run_says_nothing_of_what_is_skipped() {
        let mut runs = runs(&[("a", ["+", "~none", "~none", "+", "~none"])]);
        let failed =
            Results::from([(WHOLE_TOPIC.to_owned(), Outcome::Failed("does not run".into()))]);
        runs.get_mut("t").unwrap().insert(Environment::Qemu, failed);
        let row = bugs("| t | * | qemu | seen |\n");
        assert_eq!(problems(&runs, &row), ["t a on svm-qemu: skipped: none"]);
        let environments = runs.remove("t").unwrap();
        runs.insert(FORMS_TOPIC.to_owned(), environments);
        assert_eq!(problems(&runs, &bugs("| forms | * | qemu | seen |\n")), Vec::<String>::new());
    }

    #[test]
    fn a_topic_that_the_processor_lacks_is_no_problem() {
        let mut runs = runs(&[("a", ["+"; 5]), ("b", ["=1"; 5])]);
        let skipped =
            Results::from([(WHOLE_TOPIC.to_owned(), Outcome::Skipped("no x2APIC".into()))]);
        runs.get_mut("t").unwrap().insert(Environment::Qemu, skipped);
        assert_eq!(problems(&runs, &[]), Vec::<String>::new());
    }

    #[test]
    fn what_the_processor_by_itself_has_is_not_skipped_under_the_hypervisor() {
        let skipped_alone = runs(&[("a", ["+", "+", "~none", "+", "~none"])]);
        let expected = [
            "t a on svm-qemu: skipped: none; on qemu it is not",
            "t a on vmx-bochs: skipped: none; on bochs it is not",
        ];
        assert_eq!(problems(&skipped_alone, &[]), expected);
        let skipped_by_both = runs(&[("a", ["~none", "~none", "~none", "+", "~none"])]);
        assert_eq!(problems(&skipped_by_both, &[]), Vec::<String>::new());
        let skipped_without = runs(&[("a", ["~none", "~none", "+", "+", "+"])]);
        assert_eq!(problems(&skipped_without, &[]), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_skipped_on_a_processor_that_has_no_run_without_the_hypervisor() {
        let runs = runs(&[("a", ["~none", "~none", "+", "~none", "+"])]);
        assert_eq!(problems(&runs, &[]), ["t a on svm-bochs: skipped: none"]);
    }

    #[test]
    fn each_processor_has_its_own_instructions() {
        let mut runs = runs(&[("a", ["=1", "~none", "=1", "~none", "~none"])]);
        let environments = runs.remove("t").unwrap();
        runs.insert(FORMS_TOPIC.to_owned(), environments);
        assert_eq!(problems(&runs, &[]), Vec::<String>::new());
        let bochs = Results::from([("a".to_owned(), Outcome::Value("1".to_owned()))]);
        runs.get_mut(FORMS_TOPIC).unwrap().insert(Environment::Bochs, bochs);
        assert_eq!(
            problems(&runs, &[]),
            ["forms a on vmx-bochs: skipped: none; on bochs it is not"]
        );
    }

    #[test]
    fn a_case_that_is_reported_where_it_fails_is_missing_nowhere() {
        let runs = runs(&[("a", ["-why", "", "", "", ""]), ("b", ["+"; 5])]);
        assert_eq!(problems(&runs, &[]), ["t a on qemu: why"]);
        assert_eq!(problems(&runs, &bugs("| t | a | qemu | seen |\n")), Vec::<String>::new());
    }

    #[test]
    fn a_topic_is_not_skipped_alone() {
        let mut runs = runs(&[("a", ["+"; 5])]);
        let skipped =
            Results::from([(WHOLE_TOPIC.to_owned(), Outcome::Skipped("no x2APIC".into()))]);
        runs.get_mut("t").unwrap().insert(Environment::VmxBochs, skipped);
        assert_eq!(
            problems(&runs, &[]),
            ["t * on vmx-bochs: skipped: no x2APIC; on bochs it is not"]
        );
    }

    #[test]
    fn the_cases_about_the_hypervisor_are_not_skipped_under_it() {
        let mut runs = runs(&[("a", ["~none", "~none", "+", "+", "~none"])]);
        let environments = runs.remove("t").unwrap();
        runs.insert("cpuid".to_owned(), environments);
        assert_eq!(problems(&runs, &[]), ["cpuid a on vmx-bochs: skipped: none"]);
    }

    #[test]
    fn without_the_counterpart_there_is_no_telling() {
        let mut runs = runs(&[("a", ["+", "+", "~none", "+", "+"])]);
        runs.get_mut("t").unwrap().remove(&Environment::Qemu);
        assert_eq!(problems(&runs, &[]), Vec::<String>::new());
    }

    #[test]
    fn facts_are_compared_also_where_bochs_has_none() {
        let runs = runs(&[("a", ["=1", "~none", "=2", "=1", "~none"])]);
        assert_eq!(problems(&runs, &[]), ["t a on svm-qemu: 2, elsewhere 1"]);
    }

    #[test]
    fn rows_need_four_columns_environments_and_evidence() {
        for row in ["| t | a | qemu |", "| t | a | qemu | |", "| t | a | xen | seen |"] {
            assert!(parse_bugs(&format!("{TABLE}{row}\n"), 7).is_err(), "{row}");
        }
    }
}
