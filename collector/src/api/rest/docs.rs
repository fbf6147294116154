//! The `OpenAPI` document, made from the handlers, and the same as a page for people.

use std::{fmt::Write as _, sync::LazyLock};

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use serde_json::Value;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use super::{export, live, parquet::Kind, routes};
use crate::api::{html::escape, problem::Problem};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "procscope",
        description = "What processes cost: CPU, memory, I/O, run-queue wait, measured in the kernel. Every answer \
            states the range that it covers and how much of that was observed. Ranges are half-open. Integers have \
            up to 64 bits; a value that is not known is null, never 0. Bytes of a name that are no printable UTF-8 \
            are written as `\\x1b`, and a backslash as two."
    ),
    paths(
        routes::top,
        routes::history,
        routes::groups,
        routes::exits,
        routes::hosts,
        routes::audit,
        live::events,
        live::socket,
        export::export,
    ),
    components(schemas(Problem)),
    modifiers(&Tokens)
)]
struct Document;

/// Where a port is open to a network, a token is needed.
struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        if let Some(components) = &mut document.components {
            components.add_security_scheme("token", scheme);
        }
        // None at all is enough on loopback.
        let none = SecurityRequirement::default();
        document.security = Some(vec![none, SecurityRequirement::new("token", [""; 0])]);
    }
}

/// The document as text; it never changes.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    // A document of text and numbers always has a form in JSON.
    serde_json::to_string_pretty(&Document::openapi()).unwrap_or_default()
});

static PAGE: LazyLock<String> =
    LazyLock::new(|| render(&serde_json::from_str(&DOCUMENT).unwrap_or_default()));

/// What a field of an answer holds; that of an object within is called `outer_inner`.
pub(super) fn kind(schema: &str, field: &str) -> Kind {
    static PARSED: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(&DOCUMENT).unwrap_or_default());
    let properties = &PARSED["components"]["schemas"][schema]["properties"];
    let described = match &properties[field] {
        Value::Null => {
            let (outer, inner) = field.split_once('_').unwrap_or((field, ""));
            let within = properties[outer]["oneOf"].as_array().into_iter().flatten();
            let mut names = within.filter_map(|one| one["$ref"].as_str()?.rsplit('/').next());
            let inner_schema = names.next().unwrap_or("");
            &PARSED["components"]["schemas"][inner_schema]["properties"][inner]
        }
        described => described,
    };
    let is = |kind: &str| match &described["type"] {
        Value::String(one) => one == kind,
        Value::Array(all) => all.iter().any(|one| one == kind),
        _ => false,
    };
    match &described["format"] {
        Value::String(format) if format == "date-time" => Kind::Time,
        _ if is("boolean") => Kind::Flag,
        _ if is("integer") && described["minimum"] == 0 => Kind::Unsigned,
        _ if is("integer") => Kind::Signed,
        _ if is("number") => Kind::Float,
        _ => Kind::Text,
    }
}

pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

pub(super) async fn page() -> Response {
    (
        [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
        PAGE.as_str(),
    )
        .into_response()
}

/// The document as a page without scripts.
fn render(document: &Value) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>procscope REST</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"/style.css\">\
         </head><body><h1>procscope REST</h1><p>{}</p><p>The same for programs: \
         <a href=\"/api/openapi.json\">/api/openapi.json</a>.</p>",
        words(&document["info"]["description"])
    );
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        let get = &methods["get"];
        put(
            &mut html,
            format_args!("<h2>GET {}</h2><p>{}</p>", escape(path), words(&get["summary"])),
        );
        if get["description"].is_string() {
            put(&mut html, format_args!("<p>{}</p>", words(&get["description"])));
        }
        rows(
            &mut html,
            ["Parameter", "What", "Which"],
            get["parameters"].as_array(),
            |parameter| {
                [
                    words(&parameter["name"]),
                    words(&parameter["description"]),
                    escape(&bounds(&parameter["schema"])),
                ]
            },
        );
        let good = get["responses"].as_object().into_iter().flatten();
        for (status, response) in good.filter(|(status, _)| status.starts_with(['1', '2'])) {
            for (kind, content) in response["content"].as_object().into_iter().flatten() {
                let schema = content["schema"]["$ref"]
                    .as_str()
                    .and_then(|schema| schema.rsplit('/').next());
                let answer = schema.map_or_else(String::new, |schema| {
                    let schema = escape(schema);
                    format!(": <a href=\"#{schema}\">{schema}</a>")
                });
                put(
                    &mut html,
                    format_args!("<p>Answers {status} {}{answer}</p>", escape(kind)),
                );
            }
        }
    }
    html.push_str("<h2>What answers are made of</h2>");
    for (name, schema) in document["components"]["schemas"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let name = escape(name);
        put(
            &mut html,
            format_args!(
                "<h3 id=\"{name}\">{name}</h3><p>{}</p>",
                words(&schema["description"])
            ),
        );
        let parts = schema["allOf"].as_array().into_iter().flatten();
        let fields: Vec<_> = parts
            .chain([schema])
            .flat_map(|part| part["properties"].as_object().into_iter().flatten())
            .collect();
        rows(
            &mut html,
            ["Field", "What", "Which"],
            Some(&fields),
            |(name, field)| [escape(name), words(&field["description"]), escape(&bounds(field))],
        );
    }
    html.push_str("</body></html>\n");
    html
}

fn put(html: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail; clippy wants to hear it.
    let written = html.write_fmt(text);
    debug_assert!(written.is_ok());
}

fn rows<T>(html: &mut String, head: [&str; 3], rows: Option<&Vec<T>>, cells: impl Fn(&T) -> [String; 3]) {
    let Some(rows) = rows.filter(|rows| !rows.is_empty()) else {
        return;
    };
    html.push_str("<table><thead><tr>");
    for name in head {
        put(html, format_args!("<th scope=\"col\">{name}</th>"));
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        let [name, what, which] = cells(row);
        put(
            html,
            format_args!("<tr><td><code>{name}</code></td><td>{what}</td><td>{which}</td></tr>"),
        );
    }
    html.push_str("</tbody></table>");
}

fn words(value: &Value) -> String {
    escape(value.as_str().unwrap_or(""))
}

/// What a schema allows, in words.
fn bounds(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        return words.join(", ");
    }
    if let Some(name) = schema["$ref"].as_str() {
        return name.rsplit('/').next().unwrap_or("").to_owned();
    }
    if schema["type"] == "array" {
        return format!("list of {}", bounds(&schema["items"]));
    }
    if let Some(one_of) = schema["oneOf"].as_array() {
        return one_of.iter().map(bounds).collect::<Vec<_>>().join(" or ");
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => {
            let kinds: Vec<_> = kinds.iter().filter_map(Value::as_str).collect();
            kinds.join(" or ")
        }
        _ => String::new(),
    };
    match (&schema["minimum"], &schema["maximum"], &schema["default"]) {
        (Value::Number(min), Value::Number(max), Value::Null) => format!("{kind}, {min} to {max}"),
        (Value::Number(min), Value::Number(max), default) => {
            format!("{kind}, {min} to {max}, default {default}")
        }
        _ => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_openapi_3_1_and_describes_each_answer_and_refusal() {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let get = &document["paths"]["/api/v1/processes/top"]["get"];
        let limit = get["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .find(|p| p["name"] == "limit")
            .unwrap();
        assert_eq!(
            (&limit["schema"]["minimum"], &limit["schema"]["maximum"]),
            (&1.into(), &1_000.into())
        );
        for status in [
            "200", "400", "401", "403", "404", "405", "406", "413", "414", "429", "500", "503", "504",
        ] {
            assert!(get["responses"][status].is_object(), "{status}");
        }
        let process = &document["components"]["schemas"]["TopProcess"];
        assert_eq!(process["properties"]["start_time"]["format"], "date-time");
        let described = process["properties"]["avg_memory_mb"]["description"]
            .as_str()
            .unwrap();
        assert!(described.contains("MiB"), "{described}");
        for (schema, field, kinds) in [
            ("ExitedProcess", "container_id", ["string", "null"]),
            ("TopProcess", "runqueue_wait_counts", ["array", "null"]),
        ] {
            let described = &document["components"]["schemas"][schema]["properties"][field];
            assert_eq!(described["type"], serde_json::json!(kinds), "{described}");
        }
    }

    #[test]
    fn a_column_has_the_kind_of_its_field() {
        for (schema, field, kind) in [
            ("TopProcess", "start_time", Kind::Time),
            ("TopProcess", "avg_memory_mb", Kind::Float),
            ("TopProcess", "exited", Kind::Flag),
            ("TopProcess", "hosts", Kind::Text),
            ("AuditRow", "wall_ns", Kind::Unsigned),
            ("AuditRow", "residual_ns", Kind::Signed),
            ("Host", "coverage_share", Kind::Float),
        ] {
            assert_eq!(super::kind(schema, field), kind, "{schema} {field}");
        }
    }

    #[test]
    fn the_page_shows_each_address_and_each_field_and_runs_nothing() {
        for text in [
            "GET /api/v1/export",
            "server_ids[]",
            "cpu, memory, peak_memory",
            "avg_cpu_percent",
            "1 to 1000",
        ] {
            assert!(PAGE.contains(text), "{text}");
        }
        assert!(!PAGE.contains("<script") && !PAGE.contains("style="));
    }
}
