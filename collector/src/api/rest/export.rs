//! Answers as files: CSV or Parquet, made while they are sent.

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use procscope_proto::v1;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::warn;

use super::{
    Rest, docs,
    params::{
        Asked, AuditParams, ExitsParams, ExportParams, Given, GroupsParams, HistoryParams, HostsParams,
        Param, Question as _, TopParams,
    },
    parquet::{Kind, Parquet},
    questions,
    routes::Refusals,
    sheet,
};
use crate::{
    api::{convert, problem::Problem},
    clock,
    query::{ExitsQuery, limits},
};

/// Exits that are asked for at a time, and the rows of a group in Parquet: some ten megabytes of memory.
const ROWS_AT_ONCE: u32 = 10_000;

/// Why an export ends before its end. The reader sees a body that is cut off.
type Cut = std::io::Error;

/// Any of the answers as a file.
///
/// Every row has the range in front. A history marks gaps, as its answer does; exits are exported all, not one page.
/// An export that fails after its begin is cut off, so that it is not taken for whole.
#[utoipa::path(get, path = "/api/v1/export", params(ExportParams),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.apache.parquet"),
        )),
        Refusals))]
pub(super) async fn export(
    State(rest): State<Rest>,
    asked: Asked<ExportParams>,
) -> Result<Response, Problem> {
    let what = match asked.word("what") {
        "" => "top",
        what => what,
    };
    check(&asked, what)?;
    let columns = match what {
        "history" => columns("HistoryPoint", &v1::HistoryPoint::default()),
        "exits" => columns("ExitedProcess", &v1::ExitedProcess::default()),
        "hosts" => columns(
            "Host",
            &v1::Host {
                coverage: Some(v1::Coverage::default()),
                ..v1::Host::default()
            },
        ),
        "audit" => columns("AuditRow", &v1::AuditRow::default()),
        _ => columns("TopProcess", &v1::TopProcess::default()),
    };
    let form = if asked.word("format") == "parquet" {
        Form::Parquet(Parquet::new(columns))
    } else {
        Form::Csv(columns)
    };
    let name = format!("attachment; filename=\"procscope-{what}.{}\"", form.extension());
    let head = [
        (header::CONTENT_TYPE, form.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    let body = match what {
        "exits" => exits(rest, &asked, form).await?,
        what => Body::from(whole(&rest, what, &asked, form).await?),
    };
    Ok((head, body).into_response())
}

/// Refuses parameters that another answer has.
fn check(asked: &Given, what: &str) -> Result<(), Problem> {
    let params: &'static [Param] = match what {
        "history" => HistoryParams::PARAMS,
        "groups" => GroupsParams::PARAMS,
        "exits" => ExitsParams::PARAMS,
        "hosts" => HostsParams::PARAMS,
        "audit" => AuditParams::PARAMS,
        _ => TopParams::PARAMS,
    };
    let mut wrong = asked.not_in(params, &["what", "format"]);
    if what == "exits" && asked.has("limit") {
        // All are exported.
        wrong.push("limit");
    }
    let errors = wrong.into_iter().map(|field| crate::api::problem::FieldError {
        field: field.to_owned(),
        detail: format!("is no parameter of an export of {what}"),
    });
    let errors: Vec<_> = errors.collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Problem::fields(errors))
    }
}

/// An answer that is read at once: its rows are bounded.
async fn whole(rest: &Rest, what: &str, asked: &Given, mut form: Form) -> Result<Vec<u8>, Problem> {
    let now_ms = clock::now_ms();
    let mut file = match what {
        "history" => {
            let query = questions::history(asked)?;
            let answer = rest.ask("history", rest.queries.history(&query, now_ms)).await?;
            let answer = convert::history(answer);
            form.rows(answer.range, &answer.points, true)
        }
        "groups" => {
            let mut query = questions::groups(asked);
            query.limit = or_most(query.limit);
            let answer = rest.ask("groups", rest.queries.groups(&query, now_ms)).await?;
            let answer = convert::groups(answer);
            form.rows(answer.range, &answer.members, true)
        }
        "hosts" => {
            let range = Some(asked.range());
            let answer = rest.ask("hosts", rest.queries.hosts(range, now_ms)).await?;
            let answer = convert::hosts(answer);
            form.rows(answer.range, &answer.hosts, true)
        }
        "audit" => {
            let query = questions::audit(asked);
            let answer = rest.ask("audit", rest.queries.audit(&query, now_ms)).await?;
            let answer = convert::audit(answer);
            form.rows(answer.range, &answer.rows, true)
        }
        _ => {
            let mut query = questions::top(asked);
            query.limit = or_most(query.limit);
            let answer = rest.ask("top", rest.queries.top(&query, now_ms)).await?;
            let answer = convert::top(answer, &query);
            form.rows(answer.range, &answer.processes, true)
        }
    };
    file.extend(form.end());
    Ok(file)
}

/// A file has as many rows as there may be, when it is not said how many.
fn or_most(limit: u32) -> u32 {
    if limit == 0 { limits::TOP_MAX } else { limit }
}

/// All exits, page by page: the next is asked for when the one before is on its way.
async fn exits(rest: Rest, asked: &Given, mut form: Form) -> Result<Body, Problem> {
    let mut query = questions::exits(asked)?;
    query.page_size = ROWS_AT_ONCE;
    // The first is asked for in the open, so that a wrong question is refused by its own status.
    let (first, mut token) = page(&rest, &query, &mut form, true).await?;
    let (parts, receiver) = mpsc::channel::<Result<Bytes, Cut>>(1);
    let unread_max = rest.watchers.unread_max();
    tokio::spawn(async move {
        let mut part = Ok(first);
        loop {
            let cut = part.is_err();
            if parts.send_timeout(part, unread_max).await.is_err() || cut {
                return;
            }
            if token.is_empty() {
                break;
            }
            query.page_token = std::mem::take(&mut token);
            let asked = tokio::select! {
                asked = page(&rest, &query, &mut form, false) => asked,
                () = parts.closed() => return,
            };
            part = match asked {
                Ok((bytes, next)) => {
                    token = next;
                    Ok(bytes)
                }
                Err(problem) => {
                    warn!(?problem, "an export was cut off");
                    Err(Cut::other("a page could not be read"))
                }
            };
        }
        // Nobody reads what was not taken in time.
        drop(parts.send_timeout(Ok(form.end().into()), unread_max).await);
    });
    Ok(Body::from_stream(ReceiverStream::new(receiver)))
}

async fn page(
    rest: &Rest,
    query: &ExitsQuery,
    form: &mut Form,
    first: bool,
) -> Result<(Bytes, String), Problem> {
    let answer = rest
        .ask("exits", rest.queries.exits(query, clock::now_ms()))
        .await?;
    let answer = convert::exits(answer);
    let rows = form.rows(answer.range, &answer.exits, first);
    Ok((rows.into(), answer.next_page_token))
}

/// The names of a row's columns, with the range in front, and what they hold as the document says it.
fn columns(schema: &str, blank: &impl Serialize) -> Vec<(String, Kind)> {
    let record = sheet::record(&covered(None), blank);
    record
        .into_iter()
        .map(|(name, _)| {
            let kind = if matches!(&*name, "start" | "end") {
                Kind::Time
            } else {
                docs::kind(schema, &name)
            };
            (name, kind)
        })
        .collect()
}

/// What stands in front of every row.
fn covered(range: Option<v1::TimeRange>) -> [(&'static str, String); 2] {
    let range = range.unwrap_or_default();
    let side = |time: Option<prost_types::Timestamp>| time.map_or_else(String::new, convert::text_of);
    [("start", side(range.start)), ("end", side(range.end))]
}

/// The form of a file, with its columns.
enum Form {
    Csv(Vec<(String, Kind)>),
    Parquet(Parquet),
}

impl Form {
    fn extension(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::Parquet(_) => "parquet",
        }
    }

    fn media_type(&self) -> &'static str {
        match self {
            Self::Csv(_) => "text/csv; charset=utf-8",
            Self::Parquet(_) => "application/vnd.apache.parquet",
        }
    }

    /// Some rows; the first of them come with the names of the columns.
    fn rows(&mut self, range: Option<v1::TimeRange>, rows: &[impl Serialize], first: bool) -> Vec<u8> {
        let covered = covered(range);
        let records = rows.iter().map(|row| sheet::record(&covered, row));
        match self {
            Self::Csv(columns) => {
                let names = first.then(|| sheet::line(columns.iter().map(|(name, _)| name)));
                let lines =
                    records.map(|record| sheet::line(record.iter().map(|(_, value)| sheet::cell(value))));
                names.into_iter().chain(lines).flatten().collect()
            }
            Self::Parquet(file) => file.group(&records.collect::<Vec<_>>()),
        }
    }

    fn end(&mut self) -> Vec<u8> {
        match self {
            Self::Csv(_) => Vec::new(),
            Self::Parquet(file) => file.end(),
        }
    }
}
