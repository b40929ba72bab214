//! Parses and formats times and durations.
//!
//! Times in the REST API are in RFC 3339 format (UTC).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the current time since the Unix epoch.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the time elapsed since `time`, such as `3m`. Returns `-` if `time` is invalid, or if it is the Unix epoch, which means
/// that the time is unknown.
pub fn ago(time: &str) -> String {
    parse(time)
        .filter(|then| !then.is_zero())
        .map_or_else(|| "-".to_owned(), |then| age(now().saturating_sub(then)))
}

/// Formats an age in one or two units, such as `12s`, `3m20s`, `5h`, `9d`.
pub fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => pair(seconds / 60, "m", seconds % 60, "s"),
        600..7_200 => format!("{}m", seconds / 60),
        7_200..36_000 => pair(seconds / 3_600, "h", seconds / 60 % 60, "m"),
        36_000..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Formats a short duration, such as `1.2ms` or `3.4s`.
pub fn duration(span: Duration) -> String {
    let (number, unit) = match span.as_micros() {
        micros @ 0..1_000 => (micros.to_string(), "µs"),
        1_000..1_000_000 => (format!("{:.1}", span.as_secs_f64() * 1e3), "ms"),
        _ => (format!("{:.1}", span.as_secs_f64()), "s"),
    };
    format!("{}{unit}", number.strip_suffix(".0").unwrap_or(&number))
}

/// Returns the time of day (UTC) of an RFC 3339 time, to the millisecond.
pub fn time_of_day(time: &str) -> String {
    parse(time).map_or_else(|| time.to_owned(), clock)
}

/// Formats the time of day (UTC), to the millisecond.
pub fn clock(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs() % 86_400, time.subsec_millis());
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}

/// Formats a time (since the Unix epoch) as `2026-01-31T12:34:56Z`.
pub fn rfc3339(time: Duration) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + time).to_string()
}

/// Parses an RFC 3339 time, such as `2026-01-31T12:34:56.789Z`. Returns `None` for other text and for times before the Unix
/// epoch.
pub fn parse(time: &str) -> Option<Duration> {
    humantime::parse_rfc3339(time).ok()?.duration_since(UNIX_EPOCH).ok()
}

/// Parses a command-line duration: `30s`, `500ms`, `2m`, `1h`, `1d`, or a number of seconds.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err("expected a duration such as 30s, 500ms, 2m or 1h".to_owned()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a duration such as 30s, 500ms, 2m or 1h".to_owned())?;
    Duration::try_from_secs_f64(number * factor).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_api_are_read_to_the_nanosecond() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2000-02-29T12:00:00Z", 951_825_600, 0),
            ("2000-03-01T00:00:00Z", 951_868_800, 0),
            ("2026-11-24T05:03:55.439983426Z", 1_795_496_635, 439_983_426),
            ("2026-11-24T05:03:55.4Z", 1_795_496_635, 400_000_000),
        ] {
            assert_eq!(parse(text), Some(Duration::new(seconds, nanos)), "{text}");
        }
        for text in ["0001-01-01T00:00:00Z", "", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01T00:00Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn shorter_durations_are_shown_more_precisely() {
        let ages = [0, 119, 140, 180, 700, 7_260, 40_000, 900_000].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["0s", "119s", "2m20s", "3m", "11m", "2h1m", "11h", "10d"]);
        let spans = [12, 1_200, 300_000, 3_400_000].map(|micros| duration(Duration::from_micros(micros)));
        assert_eq!(spans, ["12µs", "1.2ms", "300ms", "3.4s"]);
        assert_eq!(clock(Duration::from_millis(86_400_000 + 3_723_004)), "01:02:03.004");
    }

    #[test]
    fn durations_are_accepted_with_and_without_a_unit() {
        let spans: Vec<u128> = ["2", "1.5s", "20ms", "2m", "1h", "1d"]
            .iter()
            .map(|text| parse_span(text).expect("a span").as_millis())
            .collect();
        assert_eq!(spans, [2_000, 1_500, 20, 120_000, 3_600_000, 86_400_000]);
        for text in ["", "s", "1 s", "2weeks", "-1s"] {
            parse_span(text).expect_err(text);
        }
    }
}
