//! What is wrong with a configuration, shown so that the reader can mend it without looking anything up: what, where
//! (`file:line:column`, the line itself, a caret), and on a `hint:` line what to write instead.
//!
//! ```text
//! error: unknown key `intervall` in `pool.api.probe`
//!   --> plimsoll.toml:12:1
//!    |
//! 12 | intervall = "5s"
//!    | ^^^^^^^^^
//! hint: did you mean `interval`?
//! ```

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One mistake, or one thing worth a second look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether the configuration can be used in spite of it.
    pub severity: Severity,
    /// What is wrong: lower case, no full stop, values in backticks.
    pub message: String,
    /// The file.
    pub path: PathBuf,
    /// Where in the file; `None`: the file as a whole.
    pub place: Option<Place>,
    /// What to write instead.
    pub hint: Option<String>,
}

/// Whether a configuration can be used in spite of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but it may not do what was meant.
    Warning,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The whole line, without its end.
    pub text: String,
    /// How many characters of it are meant, at least 1.
    pub width: usize,
}

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", Listing(problems))]
pub struct Rejected {
    /// All errors and warnings, in the order of the file; at least one is an error.
    pub problems: Vec<Problem>,
}

impl Rejected {
    /// A file that could not even be read.
    #[must_use]
    pub fn unreadable(path: &Path, message: String, hint: Option<String>) -> Self {
        let problem = Problem { severity: Severity::Error, message, path: path.to_path_buf(), place: None, hint };
        Self { problems: vec![problem] }
    }
}

/// The problems of one text, as they are found.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    path: &'a Path,
    text: &'a str,
    /// With the byte that each begins at, to sort by.
    found: Vec<(usize, Problem)>,
}

impl<'a> Problems<'a> {
    /// None yet.
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, found: Vec::new() }
    }

    /// Adds an error; `span: None` is the file as a whole.
    pub(super) fn error(&mut self, span: Option<&Range<usize>>, message: impl Into<String>) -> &mut Problem {
        self.add(Severity::Error, span, message.into())
    }

    /// Adds a warning.
    pub(super) fn warning(&mut self, span: Option<&Range<usize>>, message: impl Into<String>) -> &mut Problem {
        self.add(Severity::Warning, span, message.into())
    }

    fn add(&mut self, severity: Severity, span: Option<&Range<usize>>, message: String) -> &mut Problem {
        let place = span.map(|span| Place::of(span, self.text));
        let problem = Problem { severity, message, path: self.path.to_path_buf(), place, hint: None };
        self.found.push((span.map_or(0, |span| span.start), problem));
        let last = self.found.len() - 1;
        &mut self.found[last].1
    }

    /// The place of some bytes, for what is only found wrong later.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        Place::of(span, self.text)
    }

    /// The line that a byte stands in, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        Place::of(span, self.text).line
    }

    /// Where those stand that have a place.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.found.iter().filter_map(|(_, problem)| problem.place.as_ref())
    }

    /// All of them in the order of the file.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(start, _)| *start);
        self.found.into_iter().map(|(_, problem)| problem).collect()
    }
}

impl Problem {
    /// Says what to write instead.
    pub(super) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }
}

/// Shows several problems, with an empty line between two.
#[derive(Debug)]
pub struct Listing<'a>(pub &'a [Problem]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.message)?;
        let path = self.path.display();
        match &self.place {
            None => write!(f, "\n  --> {path}")?,
            Some(place) => {
                let Place { line, column, text, width } = place;
                let margin = line.to_string().len();
                // Tabs stay tabs below the line, so that the caret stands where the reader's terminal puts the text.
                let indent: String =
                    text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                write!(f, "\n{:margin$}--> {path}:{line}:{column}", "")?;
                write!(f, "\n{:margin$} |\n{line} | {text}", "")?;
                write!(f, "\n{:margin$} | {indent}{}", "", "^".repeat(*width))?;
            }
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl Place {
    /// The place of some bytes of `text`; what reaches over the end of the first line is cut.
    #[must_use]
    pub fn of(span: &Range<usize>, text: &str) -> Self {
        let start = boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |index| index + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |index| start + index);
        let line = text[line_start..line_end].trim_end_matches('\r');
        let end = boundary(text, span.end.min(line_start + line.len())).max(start);
        let column = text[line_start..start].chars().count() + 1;
        let shown = without_secret(line);
        // A place that begins within what is not shown points at what is shown instead.
        let column = column.min(shown.chars().count() + 1);
        let width =
            text[start..end].chars().count().clamp(1, (shown.chars().count() + 1).saturating_sub(column).max(1));
        Self { line: text[..start].matches('\n').count() + 1, column, text: shown, width }
    }
}

/// A line without the value of a `token` in it: messages end up in logs. A key that was most likely meant to be one
/// counts, too: it is the misspelt ones that are shown.
fn without_secret(line: &str) -> String {
    let value =
        line.match_indices('=').map(|(at, _)| at + 1).find(|value| holds_secret(key_before(&line[..value - 1])));
    value.map_or_else(|| line.to_owned(), |value| format!("{} [secret]", &line[..value]))
}

/// The last part of the key that ends a text.
fn key_before(text: &str) -> &str {
    let text = text.trim_end().trim_end_matches(['"', '\'']);
    let start = text
        .rfind(|c: char| !c.is_alphanumeric() && c != '_' && c != '-')
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    &text[start..]
}

fn holds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    strsim::damerau_levenshtein(&key, "token") <= 2 || ["secret", "passw"].iter().any(|word| key.contains(word))
}

/// The last boundary of a character of `text` that is not after `index`.
fn boundary(text: &str, index: usize) -> usize {
    let index = index.min(text.len());
    (0..=index).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_characters_and_ends_with_its_line() {
        let text = "a = 1\r\n\u{fc}\u{fc} = \"x\"\nlast";
        let span = |part: &str, length: usize| {
            let start = text.find(part).expect(part);
            start..start + length
        };
        for (span, line, column, shown, width) in [
            (span("a", 1), 1, 1, "a = 1", 1),
            (span("1", 20), 1, 5, "a = 1", 1),
            (span("\"x", 3), 2, 6, "\u{fc}\u{fc} = \"x\"", 3),
            (span("last", 4), 3, 1, "last", 4),
            (text.len()..text.len(), 3, 5, "last", 1),
            (999..1_000, 3, 5, "last", 1),
        ] {
            let expected = Place { line, column, text: shown.to_owned(), width };
            assert_eq!(Place::of(&span, text), expected, "{span:?}");
        }
    }

    #[test]
    fn the_value_of_a_token_is_not_shown() {
        for (line, shown) in [
            ("token = \"abc\"", "token = [secret]"),
            ("admin.token=\"abc\"", "admin.token= [secret]"),
            ("admin = { bind = \"x\", \"token\" = 'abc' }", "admin = { bind = \"x\", \"token\" = [secret]"),
            ("tokn = \"abc\"", "tokn = [secret]"),
            ("Admin_Password = \"abc\"", "Admin_Password = [secret]"),
            ("bind = \"abd\" # = token", "bind = \"abd\" # = token"),
            ("token_file = \"secrets/token\"", "token_file = \"secrets/token\""),
        ] {
            assert_eq!(without_secret(line), shown, "{line}");
            let place = Place::of(&(line.len()..line.len() + 1), line);
            assert!(!place.text.contains("abc"));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_and_no_span_make_it_panic(text in "[a-z\u{fc}\r\n\t =token]{0,40}", start in 0_usize..60, length in 0_usize..60) {
            let problem = Problem {
                severity: Severity::Error,
                message: String::new(),
                path: PathBuf::new(),
                place: Some(Place::of(&(start..start + length), &text)),
                hint: None,
            };
            let _shown = problem.to_string();
        }
    }
}
