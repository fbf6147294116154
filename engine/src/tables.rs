//! Where a statement names a table: the embedded engine takes a path there, too, and opens the file. Pure.

use crate::lexer::{Kind, Token};

/// The first table that is named by a literal, or by a quoted name that is a path.
#[must_use]
pub fn table_by_path(text: &[u8], tokens: &[Token]) -> Option<String> {
    let mut clauses = Clauses::default();
    tokens.iter().find_map(|token| {
        let table = clauses.expects_table(text, token);
        let content = token.content(text);
        let path = match token.kind {
            Kind::Text => table,
            Kind::QuotedName => (table && content.contains(&b'/')) || content.first() == Some(&b'/'),
            Kind::Word | Kind::Symbol(_) => false,
        };
        path.then(|| String::from_utf8_lossy(content).into_owned())
    })
}

/// Follows where the name of a table can stand: behind FROM and its like, and behind the commas of that list.
#[derive(Debug, Default)]
struct Clauses {
    /// One for each open parenthesis.
    open: Vec<Clause>,
    /// The statement itself.
    outer: Clause,
}

#[derive(Debug, Default, Clone, Copy)]
struct Clause {
    /// A SELECT stands in it, so that FROM names tables; in `trim(BOTH 'a' FROM 'b')` it does not.
    select: bool,
    /// A token stands in it.
    begun: bool,
    /// It is in the list of tables.
    list: bool,
    last: Last,
}

/// What the last token says of the next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Last {
    #[default]
    Other,
    /// `a IS DISTINCT FROM 'b'` compares.
    Distinct,
    /// A table follows.
    Table,
}

impl Clauses {
    /// Whether `token` stands where a table's name can; call it for every token in turn.
    fn expects_table(&mut self, text: &[u8], token: &Token) -> bool {
        let nested = !self.open.is_empty();
        let clause = self.open.last_mut().unwrap_or(&mut self.outer);
        let Clause {
            select,
            begun,
            list,
            last,
        } = *clause;
        let word = |words: &[&str]| words.iter().any(|word| token.is_word(text, word));
        let table_if = |table: bool| if table { Last::Table } else { Last::Other };
        clause.begun = true;
        clause.last = Last::Other;
        match token.kind {
            Kind::Symbol(b'(' | b'[' | b'{') => self.open.push(Clause::default()),
            Kind::Symbol(b')' | b']' | b'}') => drop(self.open.pop()),
            Kind::Symbol(b',' | b'.') => clause.last = table_if(list),
            Kind::Word if word(&["SELECT"]) => {
                *clause = Clause {
                    select: true,
                    begun: true,
                    ..Clause::default()
                }
            }
            Kind::Word if word(&["DISTINCT"]) => clause.last = Last::Distinct,
            Kind::Word if word(&["FROM", "JOIN", "INTO", "TABLE", "INFILE"]) => {
                // A parenthesis that begins with FROM is a query as well.
                let query = !nested || select || (!begun && word(&["FROM"]));
                clause.last = table_if(query && last != Last::Distinct);
                clause.list = clause.last == Last::Table;
            }
            Kind::Word if word(&["DESCRIBE", "DESC", "EXISTS"]) => clause.last = table_if(!begun && !nested),
            Kind::Word
                if word(&[
                    "WHERE", "PREWHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "ON", "USING", "SETTINGS",
                ]) =>
            {
                clause.list = false;
            }
            _ => {}
        }
        last == Last::Table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::Lexer;

    fn check(text: &str, path: Option<&str>) {
        let tokens: Vec<_> = Lexer::new(text.as_bytes()).collect();
        assert_eq!(table_by_path(text.as_bytes(), &tokens).as_deref(), path, "{text}");
    }

    #[test]
    fn literals_and_paths_in_a_tables_place_are_found() {
        for text in [
            "SELECT * FROM 'a'",
            "SELECT * FROM t, 'a'",
            "SELECT * FROM d.t AS x, (SELECT 1) AS y, 'a'",
            "SELECT (SELECT * FROM 'a')",
            "SELECT 1 WHERE 1 IN (FROM 'a' SELECT *)",
            "FROM 'a' SELECT *",
            "SELECT 1 FROM t JOIN 'a' ON 1",
            "DESCRIBE TABLE 'a'",
            "DESC 'a'",
        ] {
            check(text, Some("a"));
        }
        check("SELECT * FROM default.`/etc/passwd`", Some("/etc/passwd"));
        check("SELECT * FROM t, \"/etc/passwd\"", Some("/etc/passwd"));
        check("INSERT INTO `a/b` VALUES", Some("a/b"));
    }

    #[test]
    fn literals_elsewhere_are_values() {
        for text in [
            "SELECT a AS `CPU/s` FROM d.t",
            "SELECT trim(BOTH 'a' FROM 'b'), concat('/', 'c') FROM t WHERE a IN ('/', 'x') ORDER BY 'a', 'b'",
            "SELECT * FROM t AS x, u AS y WHERE x.a = '/'",
            "SELECT 1 FROM t WHERE a IS DISTINCT FROM 'b' ORDER BY c DESC, 'd'",
            "CREATE TABLE t (a String COMMENT 'x', b String DEFAULT 'y') ENGINE = Null COMMENT 'z'",
            "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 't')) LAYOUT(FLAT())",
            "ALTER TABLE t DROP PARTITION '2020-01-01', COMMENT COLUMN a 'x'",
            "SELECT 1 WHERE EXISTS (SELECT 'a', 'b')",
        ] {
            check(text, None);
        }
    }
}
