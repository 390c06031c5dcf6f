//! Names and values, a line each.

/// One line for each field, the values below each other.
pub fn lines(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let lines = fields.iter().map(|(name, value)| format!("{:<width$} {value}", format!("{name}:")));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_stand_below_each_other() {
        let lines = super::lines(&[("a", "1".to_owned()), ("long", "2".to_owned())]);
        assert_eq!(lines, "a:    1\nlong: 2");
        assert_eq!(super::lines(&[]), "");
    }
}
