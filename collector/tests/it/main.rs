//! The collector against the real engine: what goes in over gRPC comes out of the questions, exactly once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    clippy::missing_panics_doc,
    clippy::too_many_lines,
    clippy::unnecessary_wraps,
    reason = "a test stops at the first surprise, and its figures are small"
)]

mod access;
mod authority;
mod binary;
mod columns;
mod cost;
mod floods;
mod handover;
mod http;
mod ingest;
mod migrations;
mod outage;
mod queries;
mod rest;
mod rollups;
mod sql;
mod support;
mod tokens;
