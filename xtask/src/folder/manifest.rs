//! The manifest of a folder of guests: a Markdown table.

use std::path::Path;

/// A row of the table that names an ISO.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The ISO's file name.
    pub file: String,
    /// The way to the guest's end state, the last of them.
    pub stages: Vec<Stage>,
}

/// A state of the guest's screen on the way.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// Typed until it is reached, each time that the screen has stood still.
    pub key: Option<Key>,
    /// The text screen shows them all.
    pub texts: Vec<String>,
    /// The screen is in a graphics mode.
    pub graphics: bool,
}

/// A key that a manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// As the manifest calls it.
    pub name: &'static str,
    /// The character that it makes.
    pub text: &'static str,
}

const KEYS: [Key; 4] = [
    Key { name: "Enter", text: "\n" },
    Key { name: "Escape", text: "\u{1b}" },
    Key { name: "Space", text: " " },
    Key { name: "Tab", text: "\t" },
];

impl Stage {
    /// Whether the manifest says what the screen shows.
    pub fn is_described(&self) -> bool {
        self.graphics || !self.texts.is_empty()
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(key) = self.key {
            write!(formatter, "after {} ", key.name)?;
        }
        if self.graphics {
            formatter.write_str("graphics ")?;
        }
        formatter.write_str(&self.texts.join(", "))
    }
}

/// The rows that name an ISO.
pub fn parse(manifest: &str) -> Vec<Entry> {
    let row = |line: &str| {
        let cells: Vec<&str> =
            line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let file = Path::new(cells.first()?).file_name()?.to_str()?.trim_matches('`');
        let is_iso = file.ends_with(".iso") && !file.contains(' ');
        is_iso.then(|| Entry { file: file.to_owned(), stages: stages(cells.last().unwrap_or(&"")) })
    };
    manifest.lines().filter_map(row).collect()
}

/// The stages that a cell describes. Words in quotes or backticks are text, `*graphics*` is a
/// graphics mode; the words "then" and "after KEY" begin the next stage. All else is for people.
fn stages(cell: &str) -> Vec<Stage> {
    let mut stages = Vec::new();
    let mut stage = Stage::default();
    let mut rest = cell;
    while let Some(first) = rest.chars().next() {
        let quoted = matches!(first, '"' | '`').then(|| rest[1..].split_once(first)).flatten();
        if let Some((text, behind)) = quoted {
            stage.texts.push(text.to_owned());
            rest = behind;
            continue;
        }
        let length = word_length(rest);
        let (word, behind) = rest.split_at(length.max(first.len_utf8()));
        rest = behind;
        let begun = match word.to_ascii_lowercase().as_str() {
            "then" => Some(None),
            "after" => key(behind).map(Some),
            "*" if behind.starts_with("graphics*") => {
                stage.graphics = true;
                None
            }
            _ => None,
        };
        if let Some(key) = begun {
            stages.push(std::mem::replace(&mut stage, Stage { key, ..Stage::default() }));
        }
    }
    stages.push(stage);
    // A stage that is not described may be a picture in the end; before, it is of use only for the
    // key.
    let last = stages.len() - 1;
    let mut number = 0..;
    stages
        .retain(|stage| number.next() == Some(last) || stage.key.is_some() || stage.is_described());
    stages
}

fn word_length(text: &str) -> usize {
    text.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(text.len())
}

/// The key whose name `text` begins with.
fn key(text: &str) -> Option<Key> {
    let text = text.trim_start();
    KEYS.into_iter().find(|key| key.name.eq_ignore_ascii_case(&text[..word_length(text)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(cell: &str) -> Vec<String> {
        stages(cell).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_manifest_is_a_table() {
        let manifest = "# Guests\n| ISO | what | end state |\n|---|---|---|\n\
            | dos.iso | real mode | menu: \"1 - English\" and `A:\\]` |\n| two words.iso | x | y |\ntext\n";
        let texts = vec!["1 - English".to_owned(), "A:\\]".to_owned()];
        let stages = vec![Stage { texts, ..Stage::default() }];
        assert_eq!(parse(manifest), [Entry { file: "dos.iso".into(), stages }]);
    }

    #[test]
    fn a_row_may_have_several_stages() {
        assert_eq!(
            described(
                "\"Press then hold\" After enter a list, `A` and `B`, then *graphics* \u{2192} then \"C\""
            ),
            ["Press then hold", "after Enter A, B", "graphics ", "C"]
        );
    }

    #[test]
    fn a_key_needs_no_text_before_it_and_a_picture_none_at_all() {
        assert_eq!(described("a question; after Enter the desktop, after which"), ["after Enter "]);
        assert_eq!(described("the desktop, thereafter \"unfinished"), [""]);
        assert!(!stages("the desktop")[0].is_described());
    }

    #[test]
    fn no_cell_is_too_odd() {
        for cell in ["", "\"", "``", "after", "then then", "*graphics", "é\u{2192}", "after \u{e9}"]
        {
            assert!(!stages(cell).is_empty(), "{cell}");
        }
    }
}
