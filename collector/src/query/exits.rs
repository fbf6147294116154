//! Processes that ended, page by page.

use sha2::{Digest as _, Sha256};

use super::{
    AskedRange, Coverage, Queries, QueryError, check_hosts, check_limit, check_process_id, check_text,
    memory::TEXTS_BYTES, range::HOUR_MS,
};
use crate::{
    model::{TimeRange, hex},
    store::{answers::ExitRow, queries::ExitFilter},
};

/// Rows of a page without a size.
pub(crate) const PAGE: u32 = 100;

/// Rows a page may have.
pub(crate) const PAGE_MAX: u32 = 100_000;

/// Exits as they were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExitsQuery {
    /// Empty: all.
    pub hosts: Vec<String>,
    /// Exact name; empty: all.
    pub name: String,
    /// `None`: the last hour.
    pub range: Option<AskedRange>,
    /// 0: all.
    pub max_lifetime_ns: u64,
    /// Only non-zero codes and signals.
    pub failed: bool,
    /// 0: the default.
    pub page_size: u32,
    /// Token of the page before; empty: the first page.
    pub page_token: String,
    /// One process; empty: all.
    pub process_id: String,
}

/// A page of exits.
#[derive(Debug, Clone, PartialEq)]
pub struct Exits {
    /// What all pages cover.
    pub range: TimeRange,
    /// How much of that was seen.
    pub coverage: Coverage,
    /// Newest first.
    pub rows: Vec<ExitRow>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// Rows of all pages.
    pub total: u64,
}

/// Where a page begins. It carries the range, so that "the last hour" is the same hour on every page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PageToken {
    range: TimeRange,
    before_ms: i64,
    before_id: String,
}

impl PageToken {
    fn parse(text: &str, question: &str) -> Result<Self, QueryError> {
        let wrong = || QueryError::invalid("page_token", "is not one that this question was answered with");
        let parts: Vec<_> = text.split('.').collect();
        let [start, end, before, id, sum] = parts[..] else {
            return Err(wrong());
        };
        let number = |text: &str| text.parse::<i64>().map_err(|_no_number| wrong());
        let range = AskedRange {
            start_ms: Some(number(start)?),
            end_ms: Some(number(end)?),
            last_ms: None,
        };
        let token = Self {
            range: range.or_last(0, i64::MAX).map_err(|_no_range| wrong())?,
            before_ms: number(before)?,
            before_id: check_process_id(id)
                .ok()
                .filter(|id| !id.is_empty())
                .ok_or_else(wrong)?,
        };
        // Of another question, or not of ours.
        if sum == token.sum(question) {
            Ok(token)
        } else {
            Err(wrong())
        }
    }

    /// A short digest of the token and of its question.
    fn sum(&self, question: &str) -> String {
        hex(&Sha256::digest(format!("{self:?}{question}"))[..8])
    }

    fn text(&self, question: &str) -> String {
        let Self {
            range: TimeRange { start_ms, end_ms },
            before_ms,
            before_id,
        } = self;
        let sum = self.sum(question);
        format!("{start_ms}.{end_ms}.{before_ms}.{before_id}.{sum}")
    }
}

/// Everything that must stay the same from page to page.
fn question(query: &ExitsQuery) -> String {
    format!(
        "{:?}",
        (
            &query.hosts,
            &query.name,
            query.range,
            query.max_lifetime_ns,
            query.failed,
            &query.process_id
        )
    )
}

impl Queries {
    /// Processes that ended, newest first.
    ///
    /// # Errors
    /// When the question cannot be answered as it stands, or the store does not answer.
    pub async fn exits(&self, query: &ExitsQuery, now_ms: i64) -> Result<Exits, QueryError> {
        check_hosts(&query.hosts)?;
        check_text("name", &query.name)?;
        let page_size = check_limit("page_size", query.page_size, PAGE, PAGE_MAX)?;
        let process_id = check_process_id(&query.process_id)?;
        let question = question(query);
        let token = match &*query.page_token {
            "" => None,
            text => Some(PageToken::parse(text, &question)?),
        };
        let _turn = self.turn().await?;
        let range = match &token {
            Some(token) => token.range,
            None => {
                self.range_until_newest(query.range, HOUR_MS, &query.hosts, now_ms)
                    .await?
            }
        };
        let asked = format!("exits {range:?} {query:?}");
        let bytes = |exits: &Exits| exits.rows.len() * (size_of::<ExitRow>() + 2 * TEXTS_BYTES);
        let filter = ExitFilter {
            range,
            hosts: query.hosts.clone(),
            name: query.name.clone(),
            process_id,
            max_lifetime_ns: query.max_lifetime_ns,
            failed: query.failed,
            before: token.map(|token| (token.before_ms, token.before_id)),
            // One more tells whether there is a next page.
            limit: page_size + 1,
        };
        let ask = |_before| self.answered_exits(filter, page_size, question, now_ms);
        self.recalled(asked, (range, AskedRange::ended(query.range)), bytes, ask)
            .await
    }

    async fn answered_exits(
        &self,
        filter: ExitFilter,
        page_size: u32,
        question: String,
        now_ms: i64,
    ) -> Result<Exits, QueryError> {
        let range = filter.range;
        let mut rows = self.store.exits(&filter).await?;
        let page = usize::try_from(page_size).unwrap_or(usize::MAX);
        let more = rows.len() > page;
        rows.truncate(page);
        let next_page_token = match rows.last() {
            Some(last) if more => {
                let (before_ms, before_id) = (last.end_time_ms, last.id.clone());
                PageToken {
                    range,
                    before_ms,
                    before_id,
                }
                .text(&question)
            }
            _ => String::new(),
        };
        let total = self.store.exits_total(&filter).await?;
        let coverage = self.coverage(range, &filter.hosts, now_ms).await?;
        Ok(Exits {
            range,
            coverage,
            rows,
            next_page_token,
            total,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_comes_back_and_belongs_to_its_question() {
        let query = ExitsQuery {
            name: "sh".to_owned(),
            ..ExitsQuery::default()
        };
        let token = PageToken {
            range: TimeRange {
                start_ms: 5,
                end_ms: 9,
            },
            before_ms: 7,
            before_id: uuid::Uuid::from_u128(3).to_string(),
        };
        let question = question(&query);
        let text = token.text(&question);
        assert_eq!(PageToken::parse(&text, &question).unwrap(), token);
        assert!(PageToken::parse(&text, &super::question(&ExitsQuery::default())).is_err());
        let forged = text.replacen(".7.", ".8.", 1);
        assert!(forged != text && PageToken::parse(&forged, &question).is_err());
    }

    proptest! {
        #[test]
        fn no_token_whatever_breaks_the_question(text in ".{0,80}") {
            prop_assert!(PageToken::parse(&text, "0011223344556677").is_err());
        }
    }
}
