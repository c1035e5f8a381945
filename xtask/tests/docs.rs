//! The pages name files that exist.

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
