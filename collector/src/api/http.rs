//! HTTP: health, the collector's own metrics, and one page that shows the top.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use procscope_startup::exposition;
use tokio::sync::watch;
use tower_http::compression::CompressionLayer;
use tracing::info;

use super::{
    host_check::HostCheck,
    html::escape,
    message, outcome,
    problem::Problem,
    rest::{self, Rest},
    watch::Watchers,
};
use crate::{
    access::{
        Caller,
        door::Peer,
        guard::{self, Guard},
        pace::Pace,
    },
    clock,
    process_metrics::ProcessMetrics,
    query::{GroupBy, Metric, Queries, Top, TopQuery},
    retention::Room,
    self_stats::SelfStats,
};

/// Rows of the page.
const ROWS: u32 = 25;

/// Nothing but our own style sheet: no script, no frame, no form, no picture.
const CSP: &str =
    "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The look of the page.
const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;\
    color:#1a1a1a;background:#fff}table{border-collapse:collapse;width:100%}\
    th,td{padding:.25rem .5rem;border-bottom:1px solid #ddd;text-align:right}\
    th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left;overflow-wrap:anywhere}\
    @media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}th,td{border-color:#333}}";

/// What the routes share.
#[derive(Debug, Clone)]
pub struct Http {
    /// Answers for the page.
    pub queries: Queries,
    /// The live top.
    pub watchers: Watchers,
    /// What processes have used, for Prometheus.
    pub process_metrics: ProcessMetrics,
    /// Our own figures.
    pub stats: Arc<SelfStats>,
    /// Whether the store answers and its tables are ours.
    pub ready: watch::Receiver<bool>,
    /// Whether the store's disk has room.
    pub room: watch::Receiver<Room>,
    /// Which names are served.
    pub host_check: HostCheck,
    /// Who may ask.
    pub guard: Guard,
}

/// How long an answer may take to begin: longer than the store allows a question.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Characters of an address in the log: ours have some hundred.
const LOGGED_CHARS_MAX: usize = 500;

/// All routes.
pub fn router(http: Http) -> Router {
    let (check, asked) = (http.host_check, http.guard.clone());
    let (paced, pace) = (Arc::clone(&http.stats), Arc::new(Pace::default()));
    let rest = rest::router(Rest {
        queries: http.queries.clone(),
        stats: Arc::clone(&http.stats),
        watchers: http.watchers.clone(),
    });
    Router::new()
        .route("/", get(page))
        .route("/style.css", get(style))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/metrics/processes", get(process_metrics))
        .with_state(http)
        .merge(rest)
        .fallback(rest::unknown)
        .method_not_allowed_fallback(rest::wrong_method)
        .layer(middleware::map_response(note_status))
        .layer(CompressionLayer::new())
        .layer(middleware::map_response(keep_status))
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn(rest::without_body))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            in_pace(Arc::clone(&pace), Arc::clone(&paced), request, next)
        }))
        .layer(middleware::from_fn_with_state(asked, guard::http))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            check_name(check, request, next)
        }))
        .layer(middleware::from_fn(logged))
}

/// The status of an answer before anybody looked at its encoding.
#[derive(Debug, Clone, Copy)]
struct Answered(StatusCode);

async fn note_status(mut response: Response) -> Response {
    let status = response.status();
    response.extensions_mut().insert(Answered(status));
    response
}

/// One who refuses even what is not encoded gets that: the layer would say 406 over the whole answer.
async fn keep_status(mut response: Response) -> Response {
    if let Some(Answered(status)) = response.extensions().get().copied() {
        *response.status_mut() = status;
    }
    response
}

/// Writes a line for each request once its answer begins.
async fn logged(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let address: String = request.uri().to_string().chars().take(LOGGED_CHARS_MAX).collect();
    let from = request.extensions().get::<ConnectInfo<Peer>>();
    let from = from.map_or_else(String::new, |peer| peer.0.address.to_string());
    let response = next.run(request).await;
    let caller = response.extensions().get::<Caller>();
    info!(
        target: "procscope_collector::requests",
        %method,
        address,
        status = response.status().as_u16(),
        milliseconds = started.elapsed().as_secs_f64() * 1_000.0,
        from,
        caller = caller.map_or("", |caller| &*caller.name),
        "answered"
    );
    response
}

/// Refuses what comes faster than one client may ask.
async fn in_pace(pace: Arc<Pace>, stats: Arc<SelfStats>, request: Request, next: Next) -> Response {
    // Where there is no caller, nobody was asked who they are: whether we live is told at once.
    if let Some(caller) = request.extensions().get::<Caller>() {
        let from = request.extensions().get::<ConnectInfo<Peer>>();
        if let Err(wait) = pace.asked(caller, from.map(|peer| peer.0.address.ip()), Instant::now()) {
            stats.refused("pace");
            let detail = "more requests a second than one client may send: come again a little later";
            return Problem::come_again(StatusCode::TOO_MANY_REQUESTS, wait, detail).into_response();
        }
    }
    next.run(request).await
}

/// Lets no answer take for ever to begin. Dropping it ends its question in the store too.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_late) => {
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "the answer took longer than 30 s").into_response()
        }
    }
}

/// Checks the name and adds the headers that every answer has.
async fn check_name(check: HostCheck, request: Request, next: Next) -> Response {
    let mut response = if check.allows(request.uri(), request.headers()) {
        next.run(request).await
    } else {
        let why = "only loopback names (localhost, 127.0.0.1, [::1]) are served; --insecure allows others";
        Problem::new(StatusCode::FORBIDDEN, why).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn readyz(State(http): State<Http>) -> Response {
    let why = if !*http.ready.borrow() {
        "the store does not answer, or its tables are not ready\n"
    } else if *http.room.borrow() == Room::Little {
        "the disk of the store is almost full: agents keep what they measure\n"
    } else {
        return "ok\n".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

async fn metrics(State(http): State<Http>, headers: HeaderMap) -> Response {
    for_prometheus(&headers, http.stats.text())
}

async fn process_metrics(State(http): State<Http>, headers: HeaderMap) -> Response {
    for_prometheus(&headers, http.process_metrics.page(Instant::now()))
}

/// A page in the form that is asked for.
fn for_prometheus(headers: &HeaderMap, page: String) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let (form, page) = exposition(accept.unwrap_or(""), page);
    ([(header::CONTENT_TYPE, form), (header::VARY, "accept")], page).into_response()
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

async fn page(State(http): State<Http>) -> Response {
    let query = TopQuery {
        hosts: Vec::new(),
        metric: Metric::Cpu,
        limit: ROWS,
        group_by: GroupBy::Process,
        range: None,
        last_intervals: 0,
        name_contains: String::new(),
    };
    let (status, body) = match http.queries.top(&query, clock::now_ms()).await {
        Ok(top) => (StatusCode::OK, table(&top)),
        Err(error) => (
            outcome(&error).status,
            format!("<p>{}</p>", escape(&message(&error))),
        ),
    };
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>procscope</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"2\">\
         <link rel=\"stylesheet\" href=\"/style.css\"></head><body><h1>procscope</h1>{body}</body></html>\n"
    );
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

/// The top as a table. Everything that came from outside is escaped.
fn table(top: &Top) -> String {
    let mut html = format!(
        "<p>Top processes by CPU, {} to {}; {:.0} % of the time was observed.</p>\
         <table><thead><tr><th scope=\"col\">Command</th><th scope=\"col\">Host</th><th scope=\"col\">PID</th>\
         <th scope=\"col\">CPU %</th><th scope=\"col\">Memory MiB</th><th scope=\"col\">Peak MiB</th>\
         <th scope=\"col\">Threads</th></tr></thead><tbody>",
        time(top.range.start_ms),
        time(top.range.end_ms),
        top.coverage.share * 100.0
    );
    let mib = |mb: Option<f64>| mb.map_or_else(|| "–".to_owned(), |mb| format!("{mb:.1}"));
    for (row, info) in &top.rows {
        // Writing to a String does not fail; clippy wants to hear it.
        let written = write!(
            html,
            "<tr><td title=\"{}\">{}</td><td>{}</td><td>{}</td><td>{:.1}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(info.as_ref().map_or("", |info| &*info.cmdline)),
            escape(&row.name),
            escape(&row.member_hosts.join(", ")),
            row.pid.map_or_else(String::new, |pid| pid.to_string()),
            row.avg_cpu_percent,
            mib(row.avg_memory_mb),
            mib(row.peak_memory_mb),
            row.threads
        );
        debug_assert!(written.is_ok());
    }
    if top.rows.is_empty() {
        html.push_str("<tr><td colspan=\"7\">No agent has sent anything yet.</td></tr>");
    }
    html.push_str("</tbody></table>");
    html
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_out_of_range| ms.to_string(), |time| time.to_string())
}
