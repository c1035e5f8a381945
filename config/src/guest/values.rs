//! The values of settings, each of the type that its key takes, and the warnings about them.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::Diagnostic;
use crate::xl_cfg::{self, Element, Setting, Value};

/// Warnings about one file; the others are counted.
pub const MAX_WARNINGS: usize = 64;

pub type Result<T, E = Diagnostic> = core::result::Result<T, E>;

/// The reader of a file's values.
pub struct Values<'a> {
    file: &'a str,
    warnings: Vec<Diagnostic>,
    left_out_warnings: usize,
}

impl<'a> Values<'a> {
    /// For the file called `file`, without warnings.
    pub const fn new(file: &'a str) -> Self {
        Self { file, warnings: Vec::new(), left_out_warnings: 0 }
    }

    /// An error that no setting makes by itself.
    pub fn error_of_file(&self, message: &str) -> Diagnostic {
        Diagnostic::at(self.file, 0, 0, message.to_owned())
    }

    /// An error, or a warning, about a setting.
    pub fn error(&self, setting: &Setting, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at(self.file, setting.line, 0, message.into()).of(&setting.key)
    }

    /// Warns about a setting.
    pub fn warn(&mut self, setting: &Setting, message: impl Into<String>) {
        self.add_warning(self.error(setting, message));
    }

    /// Warns about the file as a whole.
    pub fn warn_of_file(&mut self, message: &str) {
        self.add_warning(self.error_of_file(message));
    }

    /// Adds a warning, or counts it if there are many.
    pub fn add_warning(&mut self, warning: Diagnostic) {
        if self.are_warnings_full() {
            self.leave_out_warning();
        } else {
            self.warnings.push(warning);
        }
    }

    /// True if no further warning is shown.
    pub fn are_warnings_full(&self) -> bool {
        self.warnings.len() >= MAX_WARNINGS
    }

    /// Counts a warning that is not shown.
    pub fn leave_out_warning(&mut self) {
        self.left_out_warnings += 1;
    }

    /// The warnings, the last of which counts those that are not shown.
    pub fn into_warnings(mut self) -> Vec<Diagnostic> {
        if self.left_out_warnings > 0 {
            let message = format!("{} more warnings are left out", self.left_out_warnings);
            self.warnings.push(self.error_of_file(&message));
        }
        self.warnings
    }

    /// A text in quotes.
    pub fn text<'s>(&self, setting: &'s Setting) -> Result<&'s str> {
        match &setting.value {
            Value::Text(text) => Ok(text),
            Value::Number(_) => {
                Err(self.error(setting, "must be a string in quotes, not a number"))
            }
            Value::List(_) => Err(self.error(setting, "must be a string in quotes, not a list")),
        }
    }

    /// A number, which may also be written in quotes.
    pub fn number(&self, setting: &Setting, min: i64, max: i64) -> Result<i64> {
        let number = match &setting.value {
            Value::Number(number) => Some(*number),
            Value::Text(text) => xl_cfg::parse_number(text.trim()),
            Value::List(_) => None,
        };
        let number = number.ok_or_else(|| self.error(setting, "must be a number"))?;
        if (min..=max).contains(&number) {
            return Ok(number);
        }
        Err(self.error(setting, format!("must be from {min} to {max}, not {number}")))
    }

    /// 0 or 1.
    pub fn flag(&self, setting: &Setting) -> Result<bool> {
        self.number(setting, 0, 1)
            .map(|number| number == 1)
            .map_err(|_| self.error(setting, "must be 0 or 1"))
    }

    /// The strings of a list, each with its line; a single string stands for a list of it.
    pub fn strings(&self, setting: &Setting) -> Result<Vec<(u32, String)>> {
        let of_element = |element: &Element| match &element.value {
            Value::Text(text) => Ok((element.line, text.clone())),
            _ => {
                let error = self.error(setting, "must be a list of strings in quotes");
                Err(Diagnostic { line: element.line, ..error })
            }
        };
        match &setting.value {
            Value::List(list) => list.iter().map(of_element).collect(),
            Value::Text(text) => Ok(Vec::from([(setting.line, text.clone())])),
            Value::Number(_) => Err(self.error(setting, "must be a list of strings in quotes")),
        }
    }
}

/// True for a flag that is turned off.
pub fn is_off(setting: &Setting) -> bool {
    match &setting.value {
        Value::Number(number) => *number == 0,
        Value::Text(text) => matches!(text.as_str(), "" | "0"),
        Value::List(list) => list.is_empty(),
    }
}
