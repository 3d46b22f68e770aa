//! Reads a parsed TOML document into typed sections and collects everything that does not fit.
//!
//! A section is declared once with [`section!`]: its keys, their types, defaults and ranges. From that one list come the
//! reader, the unknown-key check with its nearest known key, and [`Key`]s for the test that holds the reference and the
//! code together. (serde's `deny_unknown_fields` would stop at the first mistake.) A value that does not fit is
//! replaced by its default, so that reading goes on and finds the next mistake.

use std::fmt::Write as _;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problems;

/// Bytes of the file.
pub(super) type Span = Range<usize>;

/// A value of the file, or the default where the file has none.
#[derive(Debug, Clone)]
pub(super) struct Field<T> {
    /// The value; the default also where the written one was wrong.
    pub(super) value: T,
    /// Where the value is written; `None`: it is not.
    pub(super) span: Option<Span>,
}

impl<T> Field<T> {
    /// A value that is not written.
    pub(super) fn absent(value: T) -> Self {
        Self { value, span: None }
    }

    /// Whether the file says something about it, right or wrong.
    pub(super) fn is_written(&self) -> bool {
        self.span.is_some()
    }
}

/// What may be written for a key, and what holds if nothing is.
pub(super) struct Rule<T> {
    default: T,
    allowed: Option<Allowed<T>>,
}

impl<T> Rule<T> {
    /// The default alone.
    pub(super) fn into_default(self) -> T {
        self.default
    }
}

struct Allowed<T> {
    /// As in the reference: `1 to 1000`.
    text: String,
    holds: Box<dyn Fn(&T) -> bool>,
}

/// A key without a default: what it sets is then not there.
pub(super) fn unset<T>() -> Rule<Option<T>> {
    default(None)
}

/// Any value of the type.
pub(super) fn default<T>(default: T) -> Rule<T> {
    Rule { default, allowed: None }
}

/// A section in a section.
pub(super) fn nested<T: Default>() -> Rule<T> {
    default(T::default())
}

/// A value from `range`.
pub(super) fn within<T: Value + PartialOrd + 'static>(default: T, range: RangeInclusive<T>) -> Rule<T> {
    let text = format!("{} to {}", range.start().plain(), range.end().plain());
    Rule { default, allowed: Some(Allowed { text, holds: Box::new(move |value| range.contains(value)) }) }
}

/// A value from `range`, or the type's zero, which switches something off.
pub(super) fn zero_or<T: Value + PartialOrd + Default + 'static>(default: T, range: RangeInclusive<T>) -> Rule<T> {
    let text = format!("0 or {} to {}", range.start().plain(), range.end().plain());
    let holds = Box::new(move |value: &T| *value == T::default() || range.contains(value));
    Rule { default, allowed: Some(Allowed { text, holds }) }
}

/// A key of the schema, for documentation and its test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// With the sections that it is in: `pool.NAME.probe.interval`.
    pub path: String,
    /// As it would be written; `None`: there is no default.
    pub default: Option<String>,
    /// As in the reference: the smallest and the largest value, or all of them; `None`: any value of its type.
    pub range: Option<String>,
}

/// Something that can stand in the file, with the name that messages call it by.
pub(super) struct Entry<'a> {
    /// With the sections that it is in: `pool.api.probe.interval`.
    pub(super) path: &'a str,
    pub(super) value: &'a DeValue<'a>,
    pub(super) span: Span,
}

impl Entry<'_> {
    /// Says that the value has the wrong type.
    pub(super) fn unexpected(&self, expected: &str, hint: impl Into<String>, problems: &mut Problems<'_>) {
        let found = match self.value {
            DeValue::Integer(_) => "an integer",
            DeValue::Array(_) => "an array",
            DeValue::String(_) => "a string",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Table(_) => "a table",
        };
        problems.error(Some(&self.span), format!("`{}` is {expected}, not {found}", self.path)).hint(hint);
    }
}

/// A type that can stand in the file.
pub(super) trait Value: Sized {
    /// Reads it; `None` if it does not fit, which is then among the problems.
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self>;

    /// As it is written in the file; empty if it is not there.
    fn written(&self) -> String;

    /// As it is written, without quotes.
    fn plain(&self) -> String {
        self.written().trim_matches('"').to_owned()
    }

    /// Adds the key, and the keys below it.
    fn list_keys(path: String, rule: Rule<Self>, keys: &mut Vec<Key>) {
        let default = Some(rule.default.written()).filter(|text| !text.is_empty());
        let range = rule.allowed.map(|allowed| allowed.text).or_else(Self::choices);
        keys.push(Key { path: path.clone(), default, range });
        Self::list_item_keys(&path, keys);
    }

    /// All values that there are, if they can be told one by one.
    fn choices() -> Option<String> {
        None
    }

    /// Adds the keys that a value has in its longer form, as a table.
    fn list_item_keys(_path: &str, _keys: &mut Vec<Key>) {}
}

/// A table with known keys; made by [`section!`].
pub(super) trait Section: Default {
    /// The known keys.
    const NAMES: &'static [&'static str];

    /// Reads the known keys.
    fn read_known(table: &Table<'_>, problems: &mut Problems<'_>) -> Self;

    /// Adds the keys of the section.
    fn list_section_keys(path: &str, keys: &mut Vec<Key>);
}

/// Declares a section: a struct, its reader, its defaults and its list of keys.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $rule:expr;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub(super) struct $name {
            $($(#[$doc])* pub(super) $field: Field<$type>,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: Field::absent(Rule::<$type>::into_default($rule)),)* }
            }
        }

        impl Section for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];

            fn read_known(table: &Table<'_>, problems: &mut Problems<'_>) -> Self {
                Self { $($field: table.field(stringify!($field), $rule, problems),)* }
            }

            fn list_section_keys(path: &str, keys: &mut Vec<Key>) {
                $(<$type as Value>::list_keys(join(path, stringify!($field)), $rule, keys);)*
            }
        }
    };
}
pub(super) use section;

/// `key` below `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A table being read.
pub(super) struct Table<'a> {
    path: &'a str,
    entries: &'a DeTable<'a>,
}

impl Table<'_> {
    /// Reads one key by its rule.
    pub(super) fn field<T: Value>(&self, key: &str, rule: Rule<T>, problems: &mut Problems<'_>) -> Field<T> {
        let Some(value) = self.entries.get(key) else { return Field::absent(rule.default) };
        let path = join(self.path, key);
        let entry = Entry { path: &path, value: value.get_ref(), span: value.span() };
        let read = T::read(&entry, problems).filter(|value| {
            let Some(allowed) = rule.allowed.as_ref().filter(|allowed| !(allowed.holds)(value)) else { return true };
            problems
                .error(Some(&entry.span), format!("`{path}` is out of range: `{}`", value.plain()))
                .hint(format!("write {}", allowed.text));
            false
        });
        Field { value: read.unwrap_or(rule.default), span: Some(entry.span) }
    }
}

impl<S: Section> Value for S {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let DeValue::Table(entries) = entry.value else {
            entry.unexpected("a table", format!("write `[{}]` on a line of its own", entry.path), problems);
            return None;
        };
        Some(read_section(entry.path, entries, problems))
    }

    fn written(&self) -> String {
        String::new()
    }

    fn list_keys(path: String, _rule: Rule<Self>, keys: &mut Vec<Key>) {
        S::list_section_keys(&path, keys);
    }
}

/// Reads a section; `path` is empty for the document itself.
pub(super) fn read_section<S: Section>(path: &str, entries: &DeTable<'_>, problems: &mut Problems<'_>) -> S {
    for (key, _) in entries {
        if !S::NAMES.contains(&&**key.get_ref()) {
            unknown_key(path, key, S::NAMES, problems);
        }
    }
    S::read_known(&Table { path, entries }, problems)
}

fn unknown_key(path: &str, key: &Spanned<impl AsRef<str>>, known: &[&str], problems: &mut Problems<'_>) {
    let name = key.get_ref().as_ref();
    let place = if path.is_empty() { "at the top level".to_owned() } else { format!("in `{path}`") };
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => match super::file::sections_with_key(name).as_slice() {
            [] => format!("known keys here: `{}`", known.join("`, `")),
            sections => format!("`{name}` belongs in {}", sections.join(" or in ")),
        },
    };
    problems.error(Some(&key.span()), format!("unknown key `{name}` {place}")).hint(hint);
}

/// The known word that `word` was probably meant to be.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    /// Below that, two words share little more than their length.
    const SIMILAR: f64 = 0.6;
    let word = word.to_lowercase();
    let similarity = |candidate: &str| {
        let as_written = strsim::normalized_damerau_levenshtein(&word, candidate);
        // `max_connections` for `connections_max`: the words are right, their order is not.
        as_written.max(strsim::normalized_damerau_levenshtein(&in_order(&word), &in_order(candidate)))
    };
    known
        .map(|candidate| (similarity(candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// The words of a key, sorted.
fn in_order(key: &str) -> String {
    let mut words: Vec<_> = key.split(['_', '-']).collect();
    words.sort_unstable();
    words.join("_")
}

/// `[[name]]`: tables, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables<S>(pub(super) Vec<Field<S>>);

impl<S: Section> Value for Tables<S> {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let hint = || format!("write `[[{}]]`, with two brackets, before each", entry.path);
        let DeValue::Array(items) = entry.value else {
            entry.unexpected("a list of tables", hint(), problems);
            return None;
        };
        let mut tables = Vec::new();
        for item in items {
            let item = Entry { path: entry.path, value: item.get_ref(), span: item.span() };
            if let DeValue::Table(entries) = item.value {
                tables.push(Field { value: read_section(item.path, entries, problems), span: Some(item.span) });
            } else {
                item.unexpected("a list of tables", hint(), problems);
            }
        }
        Some(Self(tables))
    }

    fn written(&self) -> String {
        String::new()
    }

    fn list_keys(path: String, _rule: Rule<Self>, keys: &mut Vec<Key>) {
        S::list_section_keys(&path, keys);
    }
}

/// `[name.NAME]`: tables with names of the operator's choice, in the order of the file.
#[derive(Debug, Clone)]
pub(super) struct Named<V>(pub(super) Vec<(Field<String>, Field<V>)>);

impl<V> Default for Named<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: Value> Named<V> {
    fn read_all(entries: &DeTable<'_>, entry: &Entry<'_>, problems: &mut Problems<'_>) -> Self {
        Self::read_those(entries, |_, _| true, entry, problems)
    }

    /// Reads the entries that are `wanted`; the others have been dealt with.
    fn read_those(
        entries: &DeTable<'_>,
        wanted: impl Fn(&str, &DeValue<'_>) -> bool,
        entry: &Entry<'_>,
        problems: &mut Problems<'_>,
    ) -> Self {
        let mut named: Vec<_> = entries
            .iter()
            .filter(|(name, value)| wanted(name.get_ref(), value.get_ref()))
            .filter_map(|(name, value)| {
                let path = join(entry.path, name.get_ref());
                let item = Entry { path: &path, value: value.get_ref(), span: value.span() };
                let name = Field { value: name.get_ref().to_string(), span: Some(name.span()) };
                Some((name, Field { value: V::read(&item, problems)?, span: Some(item.span) }))
            })
            .collect();
        named.sort_by_key(|(name, _)| name.span.as_ref().map(|span| span.start));
        Self(named)
    }
}

impl<S: Section> Value for Named<S> {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let hint = format!("`{0}` has a name of your choice: write `[{0}.NAME]`", entry.path);
        if let DeValue::Table(entries) = entry.value {
            // `[[pool.api]]` has its name: what is wrong with it is said where it is read.
            let is_list = |value: &DeValue<'_>| {
                value.as_array().is_some_and(|items| items.iter().all(|item| item.get_ref().is_table()))
            };
            let has_name =
                |name: &str, value: &DeValue<'_>| value.is_table() || (!S::NAMES.contains(&name) && is_list(value));
            let nameless = entries.iter().find(|(name, value)| !has_name(name.get_ref(), value.get_ref()));
            if let Some((key, _)) = nameless {
                let others = entries.values().any(|value| value.get_ref().is_table());
                let span = if others { key.span() } else { entry.span.clone() };
                problems.error(Some(&span), format!("`{}` without a name", entry.path)).hint(hint);
                if !others {
                    return None;
                }
            }
            // Those that have a name are read in any case: what is wrong in them is said in the same run.
            Some(Self::read_those(entries, has_name, entry, problems))
        } else {
            entry.unexpected("a table of tables", hint, problems);
            None
        }
    }

    fn written(&self) -> String {
        String::new()
    }

    fn list_keys(path: String, _rule: Rule<Self>, keys: &mut Vec<Key>) {
        S::list_section_keys(&join(&path, "NAME"), keys);
    }
}

impl Value for Named<String> {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let DeValue::Table(entries) = entry.value else {
            entry.unexpected("a table of strings", "write `{ Name = \"value\" }`", problems);
            return None;
        };
        Some(Self::read_all(entries, entry, problems))
    }

    fn written(&self) -> String {
        let mut text = String::from("{");
        for (index, (name, value)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let _infallible = write!(text, "{comma} {} = {}", name.value, value.value.written());
        }
        text.push_str(if self.0.is_empty() { "}" } else { " }" });
        text
    }
}

/// One value, or a list of them.
impl<V: Value> Value for Vec<Field<V>> {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let mut one = |value: &DeValue<'_>, span: Span| {
            let item = Entry { path: entry.path, value, span };
            Some(Field { value: V::read(&item, problems)?, span: Some(item.span) })
        };
        match entry.value {
            DeValue::Array(items) => {
                let fields: Vec<_> = items.iter().filter_map(|item| one(item.get_ref(), item.span())).collect();
                // With nothing left it would look empty, which is another mistake.
                (items.is_empty() || !fields.is_empty()).then_some(fields)
            }
            value => one(value, entry.span.clone()).map(|field| vec![field]),
        }
    }

    fn written(&self) -> String {
        let items: Vec<_> = self.iter().map(|field| field.value.written()).collect();
        format!("[{}]", items.join(", "))
    }

    fn list_item_keys(path: &str, keys: &mut Vec<Key>) {
        V::list_item_keys(path, keys);
    }
}

impl<V: Value> Value for Option<V> {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        V::read(entry, problems).map(Some)
    }

    fn written(&self) -> String {
        self.as_ref().map(V::written).unwrap_or_default()
    }

    fn list_item_keys(path: &str, keys: &mut Vec<Key>) {
        V::list_item_keys(path, keys);
    }
}
