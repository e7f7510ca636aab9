//! Numbers as text.

/// Formats a number with so many decimal digits, and a comma at each thousand.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (sign, rest) = text.split_at(usize::from(text.starts_with('-')));
    let (whole, fraction) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_comma_at_each_thousand() {
        assert_eq!(number(1_234_567.0, 0), "1,234,567");
        assert_eq!(number(-1234.56, 1), "-1,234.6");
        assert_eq!(number(123.0, 0), "123");
        assert_eq!(number(0.125, 2), "0.12");
    }

    #[test]
    fn large_numbers_are_grouped() {
        let grouped = [999.4, 1000.0, 1_234_567.0, -12.0, -4321.0].map(|value| number(value, 0));
        assert_eq!(grouped, ["999", "1,000", "1,234,567", "-12", "-4,321"]);
    }
}
