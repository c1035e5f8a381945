//! The syntax of xl.cfg files (xl.cfg(5), "SYNTAX"): `key = value` settings, one a line or
//! separated by `;`.
//!
//! A value is a string in single or double quotes, a number (decimal, or hexadecimal after `0x`),
//! or a list of values in brackets, which may span lines. `key += value` appends to a list or to a
//! string. `#` begins a comment.
//!
//! The work grows with the length of the text (times the logarithm of the count of keys), whatever
//! it holds.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::Diagnostic;

/// Lists inside lists inside ...: xl itself uses two levels.
const MAX_DEPTH: u32 = 16;

/// Characters of an unquoted text that its error repeats.
const MAX_QUOTED: usize = 80;

/// A value as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A quoted string.
    Text(String),
    /// A number.
    Number(i64),
    /// A list; each element with its line.
    List(Vec<Element>),
}

/// A value in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The line that the value begins at, from 1.
    pub line: u32,
    /// The value.
    pub value: Value,
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// The line that the setting begins at, from 1.
    pub line: u32,
    /// The value.
    pub value: Value,
}

/// Parses a file. Each key appears once in the result, in the order of its first appearance: a
/// later setting replaces or, with `+=`, extends an earlier one.
///
/// # Errors
/// The first place that is not in the syntax.
pub fn parse(file: &str, text: &str) -> Result<Vec<Setting>, Diagnostic> {
    let mut parser = Parser { file, rest: text, line: 1, column: 1 };
    let mut settings: Vec<Setting> = Vec::new();
    let mut positions: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    loop {
        parser.skip(|c| c.is_whitespace() || c == ';');
        let Some(first) = parser.peek() else { return Ok(settings) };
        if !is_key_start(first) {
            return Err(parser.no_key(first));
        }
        let (line, column) = (parser.line, parser.column);
        let key = parser.take_while(is_key_part);
        let append = parser.operator(key)?;
        let value = parser.value(key, 0)?;
        parser.end_of_setting(key)?;
        let setting = Setting { key: key.to_owned(), line, value };
        match positions.entry(Key(key)) {
            Entry::Vacant(entry) => {
                entry.insert(settings.len());
                settings.push(setting);
            }
            Entry::Occupied(entry) => {
                let earlier = &mut settings[*entry.get()];
                if append {
                    append_to(earlier, setting)
                        .map_err(|message| Diagnostic::at(file, line, column, message).of(key))?;
                } else {
                    *earlier = setting;
                }
            }
        }
    }
}

/// A key of the index.
#[derive(PartialEq, Eq)]
struct Key<'a>(&'a str);

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        count_step();
        self.0.cmp(other.0)
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Tests count what the parser does.
fn count_step() {
    #[cfg(test)]
    tests::STEPS.set(tests::STEPS.get() + 1);
}

struct Parser<'a> {
    file: &'a str,
    rest: &'a str,
    line: u32,
    column: u32,
}

fn is_key_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_key_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl<'a> Parser<'a> {
    fn error(&self, message: String) -> Diagnostic {
        Diagnostic::at(self.file, self.line, self.column, message)
    }

    fn error_at(&self, key: &str, message: &str) -> Diagnostic {
        self.error(message.to_owned()).of(key)
    }

    /// The error where a setting should begin with its key.
    fn no_key(&self, found: char) -> Diagnostic {
        let hint = if found.is_control() { "; is this a text file?" } else { "" };
        self.error(format!("expected a key, found {found:?}{hint}"))
    }

    /// The error where text stands without quotes.
    fn no_quotes(&self, key: &str, depth: u32) -> Diagnostic {
        let line = self.rest.split('\n').next().unwrap_or_default().trim_end();
        let text: String = line.chars().take(MAX_QUOTED).collect();
        if depth > 0 || text.contains(['"', '\\', '\'']) || text.len() < line.len() {
            return self.error_at(key, "text must be in quotes");
        }
        self.error_at(key, &format!("text must be in quotes: {key} = \"{text}\""))
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        count_step();
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn take_while(&mut self, mut wanted: impl FnMut(char) -> bool) -> &'a str {
        let start = self.rest;
        while self.peek().is_some_and(&mut wanted) {
            self.next();
        }
        &start[..start.len() - self.rest.len()]
    }

    /// Skips blanks and comments.
    fn skip(&mut self, blank: impl Fn(char) -> bool) {
        loop {
            self.take_while(&blank);
            if self.peek() != Some('#') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn skip_within_line(&mut self) {
        self.take_while(|c| c.is_whitespace() && c != '\n');
    }

    /// `=` or `+=`; true for the latter.
    fn operator(&mut self, key: &str) -> Result<bool, Diagnostic> {
        self.skip_within_line();
        let append = self.peek() == Some('+');
        if append {
            self.next();
        }
        if self.peek() != Some('=') {
            return Err(self.error_at(key, "expected \"=\" after the key"));
        }
        self.next();
        self.skip_within_line();
        Ok(append)
    }

    fn end_of_setting(&mut self, key: &str) -> Result<(), Diagnostic> {
        self.skip_within_line();
        match self.peek() {
            None | Some('\n' | ';' | '#') => Ok(()),
            Some(c) => {
                Err(self.error_at(key, &format!("expected the end of the line, found {c:?}")))
            }
        }
    }

    fn value(&mut self, key: &str, depth: u32) -> Result<Value, Diagnostic> {
        match self.peek() {
            Some(quote @ ('"' | '\'')) => self.string(key, quote).map(Value::Text),
            Some('[') if depth < MAX_DEPTH => self.list(key, depth).map(Value::List),
            Some('[') => Err(self.error_at(key, "too many lists inside lists")),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(key).map(Value::Number),
            None | Some('\n' | '\r' | ';' | '#' | ',' | ']' | '=') => {
                Err(self.error_at(key, "expected a value: a string in quotes, a number or a list"))
            }
            Some(_) => Err(self.no_quotes(key, depth)),
        }
    }

    fn number(&mut self, key: &str) -> Result<i64, Diagnostic> {
        let start = (self.line, self.column);
        let text = self.take_while(|c| c.is_ascii_alphanumeric() || c == '-');
        parse_number(text).ok_or_else(|| {
            let message = format!("{text} is not a number; text must be in quotes");
            Diagnostic::at(self.file, start.0, start.1, message).of(key)
        })
    }

    fn list(&mut self, key: &str, depth: u32) -> Result<Vec<Element>, Diagnostic> {
        self.next();
        let mut elements = Vec::new();
        loop {
            self.skip(char::is_whitespace);
            if self.peek() == Some(']') {
                break;
            }
            let line = self.line;
            elements.push(Element { line, value: self.value(key, depth + 1)? });
            self.skip(char::is_whitespace);
            match self.peek() {
                Some(',') => _ = self.next(),
                Some(']') => break,
                None => return Err(self.error_at(key, "the list is not closed by \"]\"")),
                Some(_) => return Err(self.error_at(key, "expected \",\" or \"]\" in the list")),
            }
        }
        self.next();
        Ok(elements)
    }

    fn string(&mut self, key: &str, quote: char) -> Result<String, Diagnostic> {
        self.next();
        let mut text = String::new();
        loop {
            match self.peek() {
                None | Some('\n') => {
                    return Err(self.error_at(key, &format!("the string is not closed by {quote}")));
                }
                Some(c) if c == quote => break,
                Some('\\') => {
                    self.next();
                    text.push(self.escape(key)?);
                }
                Some(c) => {
                    self.next();
                    text.push(c);
                }
            }
        }
        self.next();
        Ok(text)
    }

    /// The character that stands after a backslash.
    fn escape(&mut self, key: &str) -> Result<char, Diagnostic> {
        match self.peek() {
            Some('n') => self.escaped('\n'),
            Some('t') => self.escaped('\t'),
            Some('r') => self.escaped('\r'),
            Some('a') => self.escaped('\x07'),
            Some('b') => self.escaped('\x08'),
            Some('f') => self.escaped('\x0c'),
            Some('v') => self.escaped('\x0b'),
            Some(c @ ('\\' | '"' | '\'')) => self.escaped(c),
            Some('x') => {
                self.next();
                self.code(key, 16, 2)
            }
            Some('0'..='7') => self.code(key, 8, 3),
            _ => Err(self.error_at(key, "unknown escape after \"\\\" in the string")),
        }
    }

    fn escaped(&mut self, c: char) -> Result<char, Diagnostic> {
        self.next();
        Ok(c)
    }

    fn code(&mut self, key: &str, radix: u32, max_digits: u32) -> Result<char, Diagnostic> {
        let mut digits = 0;
        let text = self.take_while(|c| {
            digits += 1;
            digits <= max_digits && c.is_digit(radix)
        });
        let code = u8::from_str_radix(text, radix).ok().filter(u8::is_ascii);
        code.map(char::from)
            .ok_or_else(|| self.error_at(key, "no such character code in the string"))
    }
}

fn append_to(earlier: &mut Setting, later: Setting) -> Result<(), String> {
    match (&mut earlier.value, later.value) {
        (Value::List(list), Value::List(more)) => list.extend(more),
        (Value::Text(text), Value::Text(more)) => text.push_str(&more),
        _ => return Err("\"+=\" needs two lists or two strings".to_owned()),
    }
    Ok(())
}

/// A number as xl reads it: decimal, or hexadecimal after `0x`, with a sign.
pub fn parse_number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let magnitude = match hexadecimal {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
            i64::from_str_radix(digits, 16)
        }
        Some(_) => return None,
        None => digits.parse(),
    };
    magnitude.ok().map(|number| if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn text(value: &str) -> Value {
        Value::Text(value.into())
    }

    fn parse_all(text: &str) -> Vec<(String, u32, Value)> {
        let settings = parse("t", text).unwrap();
        settings.into_iter().map(|setting| (setting.key, setting.line, setting.value)).collect()
    }

    fn error(text: &str) -> String {
        parse("t", text).unwrap_err().to_string()
    }

    #[test]
    fn settings_of_all_kinds() {
        let parsed = parse_all(
            "# a guest\nname='x # y' ; vcpus = 2\n\nmemory=0x200 # MiB\r\ndisk = [ 'a,b' , # \
             first\n \"c\",\n]\nempty=[]",
        );
        let list = Value::List(Vec::from([
            Element { line: 5, value: text("a,b") },
            Element { line: 6, value: text("c") },
        ]));
        let expected = [
            ("name", 2, text("x # y")),
            ("vcpus", 2, Value::Number(2)),
            ("memory", 4, Value::Number(512)),
            ("disk", 5, list),
            ("empty", 8, Value::List(Vec::new())),
        ];
        assert_eq!(parsed, expected.map(|(key, line, value)| (key.into(), line, value)));
    }

    #[test]
    fn later_settings_replace_or_extend() {
        assert_eq!(parse_all("a=1\na=2"), [("a".into(), 2, Value::Number(2))]);
        assert_eq!(parse_all("a='x'\na+='y'"), [("a".into(), 1, text("xy"))]);
        assert_eq!(parse_all("a+='y'"), [("a".into(), 1, text("y"))]);
        let (.., Value::List(list)) = &parse_all("a=['x']\na+=['y']")[0] else { panic!() };
        assert_eq!(list.iter().map(|element| element.line).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(error("a='x'\na+=1"), "t:2:1: a: \"+=\" needs two lists or two strings");
    }

    #[test]
    fn strings_have_escapes() {
        assert_eq!(parse_all(r#"a="q\"\\\n\x41\101'""#)[0].2, text("q\"\\\nAA'"));
        assert_eq!(error(r"a='\q'"), "t:1:5: a: unknown escape after \"\\\" in the string");
        assert_eq!(error(r"a='\xff'"), "t:1:8: a: no such character code in the string");
    }

    #[test]
    fn errors_name_the_line_and_the_key() {
        assert_eq!(error("a=1\nb=hvm"), "t:2:3: b: text must be in quotes: b = \"hvm\"");
        assert_eq!(error("a=1\nb"), "t:2:2: b: expected \"=\" after the key");
        assert_eq!(error("a='x"), "t:1:5: a: the string is not closed by '");
        assert_eq!(error("a=['x'\n\n"), "t:3:1: a: the list is not closed by \"]\"");
        assert_eq!(error("a=['x' 'y']"), "t:1:8: a: expected \",\" or \"]\" in the list");
        assert_eq!(error("a=1 b=2"), "t:1:5: a: expected the end of the line, found 'b'");
        assert_eq!(error("= 1"), "t:1:1: expected a key, found '='");
        assert_eq!(error("a=0x"), "t:1:3: a: 0x is not a number; text must be in quotes");
        assert_eq!(
            error("a=99999999999999999999"),
            "t:1:3: a: 99999999999999999999 is not a number; text must be in quotes"
        );
        assert_eq!(
            error(&format!("a={}", "[".repeat(100_000))),
            "t:1:19: a: too many lists inside lists"
        );
    }

    #[test]
    fn text_without_quotes_is_shown_with_them() {
        assert_eq!(
            error("a=1\n  b = /dev/sda1 ro \r\nc=1"),
            "t:2:7: b: text must be in quotes: b = \"/dev/sda1 ro\""
        );
        assert_eq!(
            error("a='x\u{fc}' \u{fc}"),
            "t:1:8: a: expected the end of the line, found '\u{fc}'"
        );
        for text in ["a=it's", "a=[x]", &format!("a={}", "x".repeat(100))] {
            assert!(error(text).ends_with("a: text must be in quotes"), "{text}");
        }
    }

    std::thread_local! {
        /// Characters that the parser took, and keys that it compared.
        pub static STEPS: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
    }

    fn steps(text: &str) -> u64 {
        STEPS.set(0);
        _ = parse("t", text);
        STEPS.get()
    }

    /// Text that is twice as long takes twice the steps, and a logarithm's more.
    #[test]
    fn the_work_grows_with_the_length() {
        const BYTES: usize = 1 << 20;
        type Line = fn(usize) -> String;
        let shapes: [Line; 7] = [
            |number| format!("k{number:07}=1\n"),
            |number| format!("{}{number}=1;", "k".repeat(200)),
            |_| "same+=['x','y']\n".into(),
            |_| "same+='x'\n".into(),
            |number| format!("# comment {number} \u{fc}\n"),
            |number| if number == 0 { "a=[".into() } else { "[[['x'],],],".into() },
            |number| if number == 0 { "a='".into() } else { "\\x41 ".into() },
        ];
        for line in shapes {
            let whole: String = (0..)
                .map(line)
                .scan(0, |bytes, line| {
                    *bytes += line.len();
                    (*bytes <= BYTES).then_some(line)
                })
                .collect();
            let half = whole[..whole.len() / 2].trim_end_matches(|c| !"\n;, ".contains(c));
            let (half, whole) = (steps(half), steps(&whole));
            assert!(whole < 40 * BYTES as u64, "{whole} steps for {:?}", line(1));
            assert!(whole * 10 < half * 25, "{half} and {whole} steps for {:?}", line(1));
        }
    }

    fn written(value: &Value) -> String {
        match value {
            Value::Text(text) => {
                format!(
                    "'{}'",
                    text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n")
                )
            }
            Value::Number(number) => number.to_string(),
            Value::List(list) => {
                let elements: Vec<String> =
                    list.iter().map(|element| written(&element.value)).collect();
                format!("[{}]", elements.join(", "))
            }
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            "[ -~äß\n]{0,20}".prop_map(Value::Text),
            (-i64::MAX..).prop_map(Value::Number)
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            let element = inner.prop_map(|value| Element { line: 1, value });
            prop::collection::vec(element, 0..5).prop_map(Value::List)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(values in prop::collection::vec(any_value(), 0..5)) {
            let setting = |(n, value)| format!("k{n}={}", written(value));
            let settings: Vec<String> = values.iter().enumerate().map(setting).collect();
            let parsed = parse_all(&settings.join(";"));
            let parsed: Vec<Value> = parsed.into_iter().map(|(.., value)| value).collect();
            prop_assert_eq!(parsed, values);
        }

        #[test]
        fn nothing_panics(text in "([a-z_]{1,3}|[=+\\[\\],;#'\"\\\\ \n-]|[0-9x]{1,4}|.){0,60}") {
            if let Err(error) = parse("t", &text) {
                let lines = text.matches('\n').count() as u32 + 1;
                prop_assert!(error.line >= 1 && error.line <= lines);
            }
        }
    }
}
