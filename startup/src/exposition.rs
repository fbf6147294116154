//! Pages for Prometheus in the form that is asked for: `OpenMetrics` 1.0, or the text of 0.0.4 that everything reads.

use std::collections::HashMap;

/// Media type of `OpenMetrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Media type of the older text.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Media type and body of a page of `OpenMetrics` for one who sends this `Accept`. Who names none of the two is a
/// person or an old tool, and gets the text.
#[must_use]
pub fn exposition(accept: &str, open_metrics: String) -> (&'static str, String) {
    let weight = |media_type: &str| {
        let ranges = accept.split(',').map(str::trim);
        let named = ranges.filter(|range| {
            let name = range.split(';').next().unwrap_or("").trim();
            name.eq_ignore_ascii_case(media_type)
        });
        let weights = named.map(|range| {
            let weight = range.split(';').find_map(|part| part.trim().strip_prefix("q="));
            weight.map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0))
        });
        weights.fold(0.0, f32::max)
    };
    let open = weight("application/openmetrics-text");
    if open > 0.0 && open >= weight("text/plain") {
        (OPEN_METRICS, open_metrics)
    } else {
        (TEXT, text_of(&open_metrics))
    }
}

/// `OpenMetrics` as text 0.0.4: a counter or an info carries its suffix in the comments too, an info is a gauge, and what
/// is unknown there goes.
fn text_of(open_metrics: &str) -> String {
    let comment = |line: &str, kind: &str| {
        let (name, rest) = line.strip_prefix(kind)?.split_once(' ')?;
        Some((name.to_owned(), rest.to_owned()))
    };
    let suffixed: HashMap<String, (&str, &str)> = open_metrics
        .lines()
        .filter_map(|line| comment(line, "# TYPE "))
        .filter_map(|(name, kind)| match kind.as_str() {
            "counter" => Some((name, ("_total", "counter"))),
            "info" => Some((name, ("_info", "gauge"))),
            _ => None,
        })
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        let renamed = ["# HELP ", "# TYPE "].into_iter().find_map(|kind| {
            let (name, rest) = comment(line, kind)?;
            let (suffix, as_kind) = suffixed.get(&name)?;
            let rest = if kind == "# TYPE " { as_kind } else { rest.as_str() };
            Some(format!("{kind}{name}{suffix} {rest}"))
        });
        text.push_str(renamed.as_deref().unwrap_or(line));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_seconds Time.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
        a_seconds_total{x=\"# EOF\"} 1\n# HELP b Now.\n# TYPE b gauge\nb 2\n# HELP c What.\n# TYPE c info\n\
        c_info{v=\"1\"} 1\n# EOF\n";

    #[test]
    fn each_reader_gets_the_form_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;\
            q=0.3,*/*;q=0.2";
        for (accept, form) in [
            (prometheus, OPEN_METRICS),
            ("application/openmetrics-text", OPEN_METRICS),
            ("application/openmetrics-text;q=0", TEXT),
            ("text/plain, application/openmetrics-text;q=0.5", TEXT),
            ("*/*", TEXT),
            ("", TEXT),
        ] {
            assert_eq!(exposition(accept, PAGE.to_owned()).0, form, "{accept}");
        }
    }

    #[test]
    fn the_text_names_counters_with_their_suffix_and_changes_no_sample() {
        assert_eq!(
            text_of(PAGE),
            "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\na_seconds_total{x=\"# EOF\"} 1\n\
             # HELP b Now.\n# TYPE b gauge\nb 2\n# HELP c_info What.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n"
        );
    }
}
