//! Which parameters each question has.

use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::{Kind, Param, Question, param};
use crate::query::limits;

const HOST: Param = param(
    "host",
    Kind::Texts { of: "host" },
    "Only this host; may be repeated. Default: all",
);
const SERVER_IDS: Param = param(
    "server_ids[]",
    Kind::Texts { of: "host" },
    "Another name of `host`",
);
const HOURS: Param = param(
    "hours",
    Kind::Integer {
        min: 1,
        max: limits::HOURS_MAX,
        default: None,
    },
    "So many hours up to the newest complete interval, instead of `start` and `end`. Default: one; of hosts a day",
);
const START: Param = param(
    "start",
    Kind::Time,
    "Begin of the range: RFC 3339, or seconds since 1970. At most 366 days before its end",
);
const END: Param = param(
    "end",
    Kind::Time,
    "End of the range, which is not part of it. Default: the end of the newest complete interval",
);
const METRIC: Param = param(
    "metric",
    Kind::Word(&[
        "cpu",
        "memory",
        "peak_memory",
        "runqueue",
        "io",
        "faults",
        "switches",
    ]),
    "What to rank by",
);
const GROUP_BY: Param = param(
    "group_by",
    Kind::Word(&["command", "process", "container", "pod", "user", "host"]),
    "What a row stands for",
);
const NAME_CONTAINS: Param = param(
    "name_contains",
    Kind::Text,
    "Only names that contain this text, without regard to case",
);
const PROCESS_ID: Param = param("process_id", Kind::Text, "One process, as other answers name it");
const NAME: Param = param("name", Kind::Text, "The exact name of the command");

const fn limit(max: u32, default: u32, says: &'static str) -> Param {
    let default = Some(default);
    param("limit", Kind::Integer { min: 1, max, default }, says)
}

macro_rules! questions {
    ($($(#[$doc:meta])* $name:ident = [$($param:expr),* $(,)?];)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name;
        impl Question for $name {
            const PARAMS: &'static [Param] = &[$($param),*];
        }
        impl IntoParams for $name {
            fn into_params(_place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                Self::PARAMS.iter().map(Param::described).collect()
            }
        }
    )*};
}

questions! {
    /// Of a top.
    TopParams = [
        HOST, SERVER_IDS, METRIC, limit(limits::TOP_MAX, limits::TOP, "Greatest number of rows"), HOURS, START, END,
        GROUP_BY, NAME_CONTAINS,
    ];
    /// Of a live top.
    LiveParams = [
        HOST, SERVER_IDS, METRIC, limit(limits::TOP_MAX, limits::TOP, "Greatest number of rows"), GROUP_BY,
        NAME_CONTAINS,
        param(
            "intervals",
            Kind::Integer { min: 1, max: limits::INTERVALS_MAX, default: Some(limits::INTERVALS) },
            "So many of the newest complete intervals are shown",
        ),
    ];
    /// Of a history.
    HistoryParams = [
        PROCESS_ID,
        param("host", Kind::Text, "With `name`, instead of `process_id`: all processes of the name on this host"),
        NAME, HOURS, START, END,
        param(
            "step",
            Kind::Duration,
            "Length of a point, such as `30s`. Default: a round one that gives at most 300 points",
        ),
    ];
    /// Of a group.
    GroupsParams = [
        param("base", Kind::Text, "Names that start with this text"),
        param("regex", Kind::Text, "Names that match this RE2 expression; in place of `base`"),
        param("group", Kind::Text, "A group of the configuration, in place of `base` and `regex`"),
        HOST, SERVER_IDS, HOURS, START, END,
        limit(limits::TOP_MAX, limits::MEMBERS, "Greatest number of members"),
    ];
    /// Of exits.
    ExitsParams = [
        HOST, SERVER_IDS, NAME, PROCESS_ID, HOURS, START, END,
        param("max_lifetime", Kind::Duration, "Only lives of at most this length, such as `1s`"),
        param("failed", Kind::Flag, "Only non-zero codes and signals"),
        limit(limits::EXITS_MAX, limits::EXITS, "Greatest number of rows of a page"),
        param("page_token", Kind::Text, "`next_page_token` of the page before; all else stays as it was"),
    ];
    /// Of hosts.
    HostsParams = [HOURS, START, END];
    /// Of an audit.
    AuditParams = [HOST, SERVER_IDS, HOURS, START, END];
    /// Of an export: all of the question's own, and the form.
    ExportParams = [
        param(
            "what",
            Kind::Word(&["top", "history", "groups", "exits", "hosts", "audit"]),
            "Which answer; its own parameters go with it",
        ),
        param("format", Kind::Word(&["csv", "parquet"]), "The form of the file"),
        HOST, SERVER_IDS, METRIC, HOURS, START, END, GROUP_BY, NAME_CONTAINS, PROCESS_ID, NAME,
        param("step", Kind::Duration, "Of a history"),
        param("base", Kind::Text, "Of groups"),
        param("regex", Kind::Text, "Of groups"),
        param("group", Kind::Text, "Of groups"),
        param("max_lifetime", Kind::Duration, "Of exits"),
        param("failed", Kind::Flag, "Of exits"),
        limit(limits::TOP_MAX, limits::TOP_MAX, "Greatest number of rows of a top or of groups; exits are all exported"),
    ];
}
