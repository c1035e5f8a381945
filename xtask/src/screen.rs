//! A guest's screen as text.

/// The content of a text screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextScreen {
    /// The rows, without trailing blanks.
    pub rows: Vec<String>,
}

impl TextScreen {
    /// From the words of VGA text memory, `columns` to a row: the low byte is the character.
    pub fn from_vga_words(words: &[u16], columns: usize) -> Self {
        let decode = |word: &u16| match word.to_le_bytes()[0] {
            byte @ 0x20..=0x7e => char::from(byte),
            _ => ' ',
        };
        let row =
            |cells: &[u16]| cells.iter().map(decode).collect::<String>().trim_end().to_owned();
        Self { rows: words.chunks(columns).map(row).collect() }
    }

    /// Whether `text` stands in a row, or runs from one row into the next.
    pub fn contains(&self, text: &str) -> bool {
        self.rows.iter().any(|row| row.contains(text)) || self.rows.concat().contains(text)
    }
}

impl std::fmt::Display for TextScreen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let used = self.rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
        self.rows[..used].iter().try_for_each(|row| writeln!(formatter, "{row}"))
    }
}

#[cfg(test)]
mod tests {
    use super::TextScreen;

    #[test]
    fn text_memory_becomes_rows() {
        let words: Vec<u16> =
            b"ab\0\0cd\xb3 ".iter().map(|&byte| 0x0700 | u16::from(byte)).collect();
        let screen = TextScreen::from_vga_words(&words, 4);
        assert_eq!(screen.rows, ["ab", "cd"]);
        assert!(screen.contains("abcd") && !screen.contains("ac"));
    }
}
