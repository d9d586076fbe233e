//! `strftime_now`: today's date, which some templates put into the system prompt.

use std::time::{SystemTime, UNIX_EPOCH};

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The time of the call by Python's `strftime` format, in UTC.
pub(super) fn strftime_now(format: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    strftime(format, now.map_or(0, |since| since.as_secs()))
}

/// A time in seconds since 1970 by Python's format. Directives that we do not know stay as they
/// are.
fn strftime(format: &str, seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let (year, month, day) = civil_date(days);
    let weekday = WEEKDAYS[((days + 4) % 7) as usize];
    let month_name = MONTHS[month as usize - 1];
    let half = if hour < 12 { "AM" } else { "PM" };
    let hour12 = (hour + 11) % 12 + 1;

    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut directive = rest.next();
        let is_padded = directive != Some('-');
        if !is_padded {
            directive = rest.next();
        }
        let two_digits = |value: u64| match is_padded {
            true => format!("{value:02}"),
            false => value.to_string(),
        };
        text.push_str(&match directive {
            Some('Y') => year.to_string(),
            Some('y') => two_digits(year % 100),
            Some('m') => two_digits(month),
            Some('d') => two_digits(day),
            Some('e') => format!("{day:2}"),
            Some('H') => two_digits(hour),
            Some('I') => two_digits(hour12),
            Some('M') => two_digits(minute),
            Some('S') => two_digits(second),
            Some('p') => half.to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('%') => "%".to_owned(),
            Some(other) if is_padded => format!("%{other}"),
            Some(other) => format!("%-{other}"),
            None if is_padded => "%".to_owned(),
            None => "%-".to_owned(),
        });
    }
    text
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counts in years that begin in March, so that the leap day is the last of its year
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    let since_year_zero = days + 719_468;
    let (era, of_era) = (
        since_year_zero / DAYS_PER_ERA,
        since_year_zero % DAYS_PER_ERA,
    );
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: u64, format: &str, want: &str) {
        assert_eq!(strftime(format, seconds), want);
    }

    #[test]
    fn formats_dates_as_python_does() {
        check(
            0,
            "%A, %d %B %Y %H:%M:%S",
            "Thursday, 01 January 1970 00:00:00",
        );
        check(951_782_400, "%d %b %y", "29 Feb 00");
        check(1_709_251_199, "%Y-%m-%d %I:%M %p", "2024-02-29 11:59 PM");
        check(1_709_251_200, "%-d %-m %a %F", "1 3 Fri 2024-03-01");
        check(4_107_542_400, "%F", "2100-03-01");
        check(0, "100%% %Q %-Q %", "100% %Q %-Q %");
    }
}
