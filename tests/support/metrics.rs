//! A scrape of `/metrics`, and questions to it.

/// The samples of one scrape.
pub(crate) struct Metrics {
    /// As they came.
    pub(crate) text: String,
}

impl Metrics {
    /// The sum of all samples of `name` that have these labels (among others).
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name, labels).iter().map(|(_, value)| value).sum()
    }

    /// All samples of `name` that have these labels (among others): label text and value.
    pub(crate) fn samples(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(&str, f64)> {
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with(['{', ' ']))
            .filter(|rest| labels.iter().all(|(label, value)| has_label(rest, label, value)))
            .filter_map(|rest| rest.rsplit_once(' '))
            .map(|(labels, value)| (labels, value.parse().expect("a number")))
            .collect()
    }

    /// Whether there is any sample of `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.samples(name, &[]).is_empty()
    }
}

fn has_label(rest: &str, label: &str, value: &str) -> bool {
    [format!("{{{label}=\"{value}\""), format!(",{label}=\"{value}\"")].iter().any(|wanted| rest.contains(wanted))
}
