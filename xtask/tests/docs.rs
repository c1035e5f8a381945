//! The pages name files and functions that exist, and all files that have `unsafe`; comments and
//! pages name the things that they speak of.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use xtask::paths;

/// Folders that hold no source.
const OTHER: [&str; 3] = ["target", "build", ".git"];

fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !OTHER.contains(&name.as_str()) {
            found.push(format!("{}/", path.display()));
            files(&path, found);
        } else {
            found.push(path.display().to_string());
        }
    }
}

/// Names of Rust files, of folders, and of all else in the tests' folder, in `code` on a page.
fn names(page: &str) -> impl Iterator<Item = &str> {
    let is_path = |name: &&str| {
        name.chars()
            .all(|character| character.is_ascii_alphanumeric() || "_-./".contains(character))
            && !OTHER.iter().any(|other| name.starts_with(other))
            && !name.contains(|character: char| character.is_ascii_uppercase())
            && !name.starts_with(['/', '.'])
            && (name.ends_with(".rs")
                || name.ends_with('/')
                || name.contains("/src/")
                || name.starts_with("tests/"))
    };
    page.split('`').skip(1).step_by(2).filter(is_path)
}

#[test]
fn pages_name_files_that_exist() {
    let root = paths::root();
    let mut found = Vec::new();
    files(&root, &mut found);
    let pages: Vec<PathBuf> =
        found.iter().filter(|name| name.ends_with(".md")).map(PathBuf::from).collect();
    assert!(pages.len() > 20);
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page");
        for name in names(&text) {
            let ends = [format!("/{name}"), format!("/{name}.rs"), format!("/{name}/")];
            let exists =
                found.iter().any(|path| ends.iter().any(|end| path.ends_with(end.as_str())));
            assert!(exists, "{}: there is no {name}", page.display());
        }
    }
}

/// Whether the code of a file has the word, outside of comments and strings.
fn says_unsafe(tokens: proc_macro2::TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        proc_macro2::TokenTree::Group(group) => says_unsafe(group.stream()),
        proc_macro2::TokenTree::Ident(word) => word == "unsafe",
        _ => false,
    })
}

#[test]
fn the_architecture_page_names_every_file_that_has_unsafe() {
    let root = paths::root();
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).expect("a page");
    let (_, section) = page.split_once("\n## Where `unsafe` is\n").expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    let named: BTreeSet<String> = rows.flat_map(names).map(str::to_owned).collect();
    let mut found = Vec::new();
    files(&root, &mut found);
    let root = format!("{}/", root.display());
    let has_unsafe = |name: &&str| {
        let text = std::fs::read_to_string(format!("{root}{name}")).expect("a file");
        says_unsafe(text.parse().expect("Rust"))
    };
    let with_unsafe: BTreeSet<String> = found
        .iter()
        .filter_map(|path| path.strip_prefix(&root))
        .filter(|name| name.ends_with(".rs") && !name.starts_with("tests/guests/"))
        .filter(has_unsafe)
        .map(str::to_owned)
        .collect();
    let difference: Vec<_> = with_unsafe.symmetric_difference(&named).collect();
    assert!(difference.is_empty(), "with `unsafe` or named, and not both: {difference:?}");
}

/// The walks of docs/architecture.md, and how many rooms each may have.
const WALKS: [(&str, usize); 4] = [
    ("A port access", 5),
    ("Device memory", 11),
    ("From a line to its injection", 9),
    ("`memory =`", 6),
];

/// The rooms of a walk: lines that begin with a number.
fn rooms(section: &str) -> Vec<&str> {
    let numbered = |line: &&str| line.starts_with(|first: char| first.is_ascii_digit());
    section.lines().filter(numbered).collect()
}

#[test]
fn walks_name_functions_that_their_files_have() {
    let root = paths::root();
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).expect("the page");
    for (walk, most) in WALKS {
        let heading = format!("\n### {walk} ({most} rooms)\n");
        let section = page.split(heading.as_str()).nth(1);
        let section = section.unwrap_or_else(|| panic!("no walk {walk:?} of {most} rooms"));
        let rooms = rooms(section.split("\n#").next().unwrap_or_default());
        assert_eq!(rooms.len(), most, "{walk}: {rooms:#?}");
        for room in rooms {
            let mut words = room.split('`').skip(1).step_by(2);
            let file = words.next().unwrap_or_default();
            let text = std::fs::read_to_string(root.join(file))
                .unwrap_or_else(|error| panic!("{walk}: {file}: {error}"));
            let mut functions = words.filter(|word| !word.contains('/')).peekable();
            assert!(functions.peek().is_some(), "{walk}: {file}: no function");
            for function in functions {
                let has =
                    ["(", "<"].iter().any(|end| text.contains(&format!("fn {function}{end}")));
                assert!(has, "{walk}: {file} has no function {function}");
            }
        }
    }
}

/// Words that name no thing. Capitals begin a sentence.
const NAMELESS: [&str; 6] = ["What", "Who", "Whoever", "Whatever", "Nobody", "Somebody"];

/// How comments begin in files with this ending; a page is prose all through.
const COMMENTS: [(&str, &str); 6] =
    [("md", ""), ("rs", "//"), ("s", "#"), ("toml", "#"), ("sh", "#"), ("asm", ";")];

#[test]
fn sentences_begin_with_the_thing_that_they_speak_of() {
    let root = paths::root();
    let mut found = Vec::new();
    files(&root, &mut found);
    let mut nameless = Vec::new();
    for name in &found {
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let Some((_, mark)) = COMMENTS.iter().find(|(of, _)| *of == ending) else { continue };
        let text = std::fs::read_to_string(name).expect("a file");
        for (number, line) in text.lines().enumerate() {
            let prose = line.trim_start().strip_prefix(mark).unwrap_or_default();
            let mut words = prose.split(|letter: char| !letter.is_ascii_alphanumeric());
            if words.any(|word| NAMELESS.contains(&word)) {
                nameless.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    assert!(nameless.is_empty(), "name the thing instead:\n{}", nameless.join("\n"));
}
