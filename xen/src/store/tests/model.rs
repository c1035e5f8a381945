//! Random operations of two guests, in transactions and not, against a plain map.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// An operation on one of a few nodes that both guests may change.
#[derive(Clone, Debug)]
enum Operation {
    Read(String),
    List(String),
    Write(String, u8),
    Remove(String),
}

#[derive(Clone, Debug)]
enum Step {
    Alone(Operation),
    Start,
    Inside(Operation),
    End { is_committed: bool },
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just("a"), Just("b")], 1..4)
        .prop_map(|names| format!("/shared/{}", names.join("/")))
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        path().prop_map(Operation::Read),
        path().prop_map(Operation::List),
        (path(), b'0'..=b'9').prop_map(|(path, value)| Operation::Write(path, value)),
        path().prop_map(Operation::Remove),
    ]
}

fn step() -> impl Strategy<Value = (DomId, Step)> {
    let step = prop_oneof![
        4 => operation().prop_map(Step::Alone),
        1 => Just(Step::Start),
        4 => operation().prop_map(Step::Inside),
        1 => any::<bool>().prop_map(|is_committed| Step::End { is_committed }),
    ];
    (1..3_u16, step)
}

fn in_store(store: &mut Store, domain: DomId, id: u32, operation: &Operation) -> Answer {
    let (kind, payload) = match operation {
        Operation::Read(path) => (Kind::Read, format!("{path}\0")),
        Operation::List(path) => (Kind::Directory, format!("{path}\0")),
        Operation::Write(path, value) => (Kind::Write, format!("{path}\0{value}")),
        Operation::Remove(path) => (Kind::Rm, format!("{path}\0")),
    };
    ask_in(store, domain, id, kind, payload.as_bytes())
}

/// The nodes and their values.
type Model = BTreeMap<String, String>;

fn in_model(model: &mut Model, operation: &Operation) -> Result<String, String> {
    let missing = || "ENOENT".to_string();
    match operation {
        Operation::Read(path) => model.get(path).cloned().ok_or_else(missing),
        Operation::List(path) => {
            model.get(path).ok_or_else(missing)?;
            let names = model.keys().filter(|node| path::parent(node) == Some(path));
            Ok(names.map(|node| format!("{}\0", path::base(node))).collect())
        }
        Operation::Write(path, value) => {
            let mut above = path.as_str();
            while let Some(parent) = path::parent(above) {
                above = parent;
                model.entry(above.to_string()).or_default();
            }
            model.insert(path.clone(), value.to_string());
            Ok("OK\0".into())
        }
        Operation::Remove(path) => {
            model.get(path::parent(path).unwrap()).ok_or_else(missing)?;
            let below = format!("{path}/");
            model.retain(|node, _| node != path && !node.starts_with(&below));
            Ok("OK\0".into())
        }
    }
}

/// Names in any order.
fn sorted(operation: &Operation, answer: Result<String, String>) -> Result<String, String> {
    let Operation::List(_) = operation else { return answer };
    answer.map(|names| {
        let mut names: Vec<_> = names.split_inclusive('\0').collect();
        names.sort_unstable();
        names.concat()
    })
}

fn contents(store: &Store) -> Model {
    let mut model = Model::new();
    let mut paths = vec!["/shared".to_string()];
    while let Some(path) = paths.pop() {
        paths.extend(store.list(&path).unwrap().iter().map(|name| path::join(&path, name)));
        model.insert(path.clone(), text(&store.read(&path).unwrap()));
    }
    model
}

/// A transaction that is open, and its operations with their answers.
struct Open {
    id: u32,
    log: Vec<(Operation, Result<String, String>)>,
    others_changed: bool,
}

proptest! {
    /// A transaction that is committed is as if all of it had happened at its end, with the answers
    /// that it got. One that is not has changed nothing, and is refused only if something changed.
    #[test]
    fn transactions_are_as_if_they_happened_at_once(
        steps in prop::collection::vec(step(), 0..60)
    ) {
        let mut store = two_guests();
        store.mkdir("/shared").unwrap();
        store.set_permissions("/shared", Permissions::new(Permission::both(0), &[])).unwrap();
        let mut model = contents(&store);
        model.insert("/".into(), String::new());
        let mut open: [Option<Open>; 3] = [None, None, None];
        for (domain, step) in steps {
            let slot = usize::from(domain);
            match step {
                Step::Alone(operation) => {
                    let before = model.clone();
                    let expected = in_model(&mut model, &operation);
                    let answer = in_store(&mut store, domain, 0, &operation).result;
                    prop_assert_eq!(sorted(&operation, answer), expected);
                    let is_write = matches!(operation, Operation::Write(..)) || before != model;
                    open.iter_mut().flatten().for_each(|it| it.others_changed |= is_write);
                }
                Step::Start if open[slot].is_none() => {
                    let id = ask(&mut store, domain, Kind::TransactionStart, b"\0").ok();
                    let id = id.trim_end_matches('\0').parse().unwrap();
                    open[slot] = Some(Open { id, log: vec![], others_changed: false });
                }
                Step::Inside(operation) => {
                    let Some(open) = &mut open[slot] else { continue };
                    let answer = in_store(&mut store, domain, open.id, &operation).result;
                    let answer = sorted(&operation, answer);
                    open.log.push((operation, answer));
                }
                Step::End { is_committed } => {
                    let Some(ended) = open[slot].take() else { continue };
                    let payload = if is_committed { b"T\0" } else { b"F\0" };
                    let answer =
                        ask_in(&mut store, domain, ended.id, Kind::TransactionEnd, payload).result;
                    if answer == Err("EAGAIN".into()) {
                        prop_assert!(is_committed && ended.others_changed);
                        continue;
                    }
                    prop_assert_eq!(answer, Ok("OK\0".into()));
                    if is_committed {
                        for (operation, answer) in ended.log {
                            prop_assert_eq!(&in_model(&mut model, &operation), &answer);
                        }
                        open.iter_mut().flatten().for_each(|it| it.others_changed = true);
                    }
                }
                Step::Start => {}
            }
            let mut inside = model.clone();
            inside.remove("/");
            prop_assert_eq!(contents(&store), inside);
            store.check();
        }
        for domain in [1, 2] {
            store.release(domain);
            prop_assert_eq!(store.usage(domain), Usage::default());
        }
        store.check();
    }
}
