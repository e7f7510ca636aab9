//! A reader for DER (X.690), as much as certificates need.

/// The unread part of a DER encoding (X.690).
pub(in crate::tls) struct Der<'a>(pub(in crate::tls) &'a [u8]);

impl<'a> Der<'a> {
    /// The contents of the next element, which must have this tag and a definite, shortest length.
    pub(in crate::tls) fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.next_tag() != Some(tag) {
            return None;
        }
        self.any().map(|(_, value)| value)
    }

    /// The next element with its tag and length.
    pub(in crate::tls) fn element(&mut self, tag: u8) -> Option<&'a [u8]> {
        let from = self.0;
        self.value(tag)?;
        from.get(..from.len() - self.0.len())
    }

    /// The contents of the next element if it has this tag; empty otherwise.
    pub(in crate::tls) fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        match self.next_tag() == Some(tag) {
            true => self.value(tag),
            false => Some(&[]),
        }
    }

    /// Tag and contents of the next element.
    pub(in crate::tls) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                let push = |length, byte: &u8| length << 8 | usize::from(*byte);
                let length = bytes.iter().fold(0, push);
                let is_shortest = length >= 0x80 && bytes.first() != Some(&0);
                is_shortest.then_some((length, rest))?
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    pub(in crate::tls) fn next_tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(in crate::tls) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// UTCTime or GeneralizedTime in the form that RFC 5280 requires.
    pub(in crate::tls) fn time(&mut self) -> Option<i64> {
        if self.0.first() == Some(&UTC_TIME) {
            let (year, rest) = self.value(UTC_TIME)?.split_at_checked(2)?;
            let year = number(year)?;
            let century = if year < 50 { 2000 } else { 1900 };
            return seconds(century + year, rest);
        }
        let (year, rest) = self.value(GENERALIZED_TIME)?.split_at_checked(4)?;
        seconds(number(year)?, rest)
    }
}

/// Unix seconds of `MMDDHHMMSSZ` in `year`.
pub(super) fn seconds(year: i64, rest: &[u8]) -> Option<i64> {
    let rest = rest.strip_suffix(b"Z").filter(|rest| rest.len() == 10)?;
    let mut fields = [0; 5];
    for (field, digits) in fields.iter_mut().zip(rest.chunks(2)) {
        *field = number(digits)?;
    }
    let [month, day, hour, minute, second] = fields;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years that begin in March have their odd day at the end (Hinnant, "chrono-Compatible Low-Level
    // Date Algorithms").
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leap_days + day_of_year - DAYS_TO_1970;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        digits
            .iter()
            .fold(0, |n, digit| n * 10 + i64::from(digit - b'0'))
    })
}

const UTC_TIME: u8 = 0x17;
pub(in crate::tls) const GENERALIZED_TIME: u8 = 0x18;
/// From 1 March of the year 0 to 1 January 1970.
const DAYS_TO_1970: i64 = 719_468;
