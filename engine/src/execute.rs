//! One request from its text to its answer, on a thread that may block.

use std::{
    io::{self, Read},
    sync::Arc,
    time::Instant,
};

use crate::{
    chdb::{Connection, Param},
    compression::plain_reader,
    engine::{Engine, apply_settings, literal, use_database},
    exception::{Code, Exception},
    formats::{Joining, header_length, joining},
    kept::Kept,
    lexer::{Kind, Lexer},
    policy::{Class, has_second_statement, hides_an_insert},
    reader,
    request::Ask,
    response::Sink,
    running::{Guard, Run, Running},
    sessions::Sessions,
    statement::{Head, format_clause, is_streamable_read, split_head},
    stats::Stats,
    upload::{BodyReader, INSERT_PIECE_BYTES, body_error, fill},
};

/// The longest statement that is read; `max_query_size` of the engine (256 KiB) holds before, unless it is raised.
const STATEMENT_BYTES_MAX: usize = 16 << 20;
/// The format of an answer where nobody names one, as a server does it.
const DEFAULT_FORMAT: &str = "TabSeparated";

/// What a Go client asks first, on HTTP too, and then speaks the revision of the native protocol that it is told.
/// Revision 0 keeps it at what this interface speaks.
const GO_HELLO: &str = "SELECT displayName(), version(), revision(), timezone()";
const GO_HELLO_INSTEAD: &str = "SELECT displayName(), version(), toUInt32(0) AS `revision()`, timezone()";

/// What all requests share.
#[derive(Debug)]
pub struct Shared {
    /// The engine.
    pub engine: Arc<Engine>,
    /// What runs.
    pub running: Arc<Running>,
    /// The sessions.
    pub sessions: Sessions,
}

/// One request.
pub struct Job {
    /// What it asks for.
    pub ask: Ask,
    /// Its body, as it was sent.
    pub body: BodyReader,
    /// Its entry among what runs; the query has ended when this is dropped.
    pub guard: Guard,
    /// Whether the user may only read.
    pub reader: bool,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("query_id", &self.guard.run().query_id())
            .finish_non_exhaustive()
    }
}

/// Executes a request and answers it. Query and session have ended before the client can see the end of its answer,
/// so that both can be used again at once.
pub fn execute(shared: &Shared, job: Job, mut sink: Sink) {
    let Job {
        ask,
        body,
        guard,
        reader,
    } = job;
    let outcome = in_session(shared, ask, body, guard.run(), reader, &mut sink);
    drop(guard);
    match outcome {
        Ok(()) => {
            if sink.finish().is_err() {
                tracing::debug!("a client has gone before the end of its answer");
            }
        }
        Err(error) => {
            tracing::debug!(%error, "a query failed");
            sink.fail(&error, &shared.engine.facts().version);
        }
    }
}

/// Takes the session's connection, or a fresh one, and puts it back.
fn in_session(
    shared: &Shared,
    ask: Ask,
    body: BodyReader,
    run: &Run,
    reader: bool,
    sink: &mut Sink,
) -> Result<(), Exception> {
    run.check()?;
    let Some(session) = ask.session.clone() else {
        let mut connection = shared.engine.connect(run.mark())?;
        return answer(shared, ask, body, run, reader, &mut connection, sink);
    };
    // A reader never meets the session of one who may write.
    let id = format!("{}/{}", if reader { "reader" } else { "writer" }, session.id);
    let opened = match shared.sessions.take(&id, session.must_exist, Instant::now())? {
        Some(connection) => Ok(connection),
        None => shared.engine.connect(run.mark()),
    };
    match opened {
        Ok(mut connection) => {
            let outcome = answer(shared, ask, body, run, reader, &mut connection, sink);
            let kept = (!session.close).then_some(connection);
            shared.sessions.put(&id, kept, Instant::now() + session.timeout);
            outcome
        }
        Err(error) => {
            shared.sessions.put(&id, None, Instant::now());
            Err(error)
        }
    }
}

/// Makes the connection ready, and runs the one statement.
fn answer(
    shared: &Shared,
    ask: Ask,
    body: BodyReader,
    run: &Run,
    reader: bool,
    connection: &mut Connection,
    sink: &mut Sink,
) -> Result<(), Exception> {
    let plain =
        plain_reader(body, ask.wire.content, ask.wire.decompress).map_err(|error| body_error(&error))?;
    let mut text = Text::new(&ask.query, plain);
    let head = text.read_head()?;
    if let Some(database) = ask.database.as_deref().filter(|name| !name.is_empty()) {
        use_database(connection, database)?;
    }
    apply_settings(connection, &settings_of(&ask, run, reader))?;
    run.check()?;
    match head {
        Head::Insert { end, format, data } => {
            let statement = text.bytes.get(..end).unwrap_or_default().to_vec();
            let format = format
                .or_else(|| ask.format.clone())
                .unwrap_or_else(|| "Values".to_owned());
            let classified = [statement.as_slice(), b" FORMAT Null"].concat();
            allow(shared, connection, &classified, &ask, reader)?;
            let stats = insert(connection, &statement, &format, &ask.params, text.rest(data), run)?;
            sink.begin(DEFAULT_FORMAT, &stats)
        }
        Head::InsertSelect {
            end,
            format,
            data,
            input,
        } => {
            let statement = text.bytes.get(..end).unwrap_or_default().to_vec();
            allow(shared, connection, &statement, &ask, reader)?;
            let kept = Kept::keep(&shared.engine, text.rest(data), run)?;
            // The engine reads a SELECT's data from no stream: it is in a file of our own by then.
            let source = format!("file({}, {}, ", literal(&kept.path()), literal(&format));
            let before = statement.get(..input.start).unwrap_or_default();
            let behind = statement.get(input.end..).unwrap_or_default();
            let statement = [before, source.as_bytes(), behind].concat();
            let stats = connection.query(&statement, "Null", &ask.params)?.stats();
            sink.begin(DEFAULT_FORMAT, &stats)
        }
        Head::InsertUnreadable => Err(Exception::new(
            Code::NOT_IMPLEMENTED,
            "INSERT … SELECT takes data of its own by `FROM input('structure') … FORMAT name` alone",
        )),
        Head::Whole | Head::Incomplete => {
            let class = allow(shared, connection, &text.bytes, &ask, reader)?;
            let asked = Question::new(shared, text.bytes, class, ask);
            match joining(&asked.format) {
                Joining::Never => whole(connection, &asked, sink),
                joining if asked.streamed => stream(connection, &asked, joining, run, sink),
                _ => whole(connection, &asked, sink),
            }
        }
    }
}

/// The request's settings, and those that make it killable and, where it has to be, harmless.
fn settings_of(ask: &Ask, run: &Run, reader: bool) -> Vec<(String, String)> {
    let mut settings = ask.settings.clone();
    let comment = settings.iter_mut().find(|(name, _)| name == "log_comment");
    match comment {
        Some((_, value)) => *value = format!("{} {value}", run.mark()),
        // A kept connection carries the mark of the request that opened it.
        None if ask.session.is_some() => settings.push(("log_comment".to_owned(), run.mark().to_owned())),
        None => {}
    }
    // A session must not stay read-only after one GET: there the class of the statement alone decides.
    let asked = settings
        .iter()
        .any(|(name, value)| name == "readonly" && value != "0");
    if (ask.readonly || reader) && ask.session.is_none() && !asked {
        settings.retain(|(name, _)| name != "readonly");
        settings.push(("readonly".to_owned(), "2".to_owned()));
    }
    if reader {
        reader::bound(&mut settings);
    }
    settings
}

/// Lets one harmless statement through.
fn allow(
    shared: &Shared,
    connection: &mut Connection,
    statement: &[u8],
    ask: &Ask,
    reader: bool,
) -> Result<Class, Exception> {
    if statement.trim_ascii().is_empty() {
        return Err(Exception::new(
            Code::SYNTAX_ERROR,
            "Syntax error: the query is empty",
        ));
    }
    if statement.contains(&0) {
        return Err(Exception::new(
            Code::SYNTAX_ERROR,
            "Syntax error: a statement holds no zero byte",
        ));
    }
    let analysis = connection.classify(statement);
    if analysis.statements > 1 || (analysis.class == Class::Unknown && has_second_statement(statement)) {
        return Err(Exception::new(
            Code::SYNTAX_ERROR,
            "Syntax error (Multi-statements are not allowed): send one statement a request",
        ));
    }
    shared.engine.policy().check(statement, analysis.class)?;
    if hides_an_insert(statement) {
        return Err(Exception::new(
            Code::NOT_IMPLEMENTED,
            "an INSERT with data has to begin with INSERT here",
        ));
    }
    if reader && let Some(name) = reader::lifts(statement) {
        return Err(Exception::new(
            Code::READONLY,
            format_args!(
                "Cannot modify '{name}' setting in a statement of this user: give a lower one in the URL"
            ),
        ));
    }
    let word = |word: &str| {
        Lexer::new(statement)
            .next()
            .is_some_and(|first| first.is_word(statement, word))
    };
    let harmless = matches!(analysis.class, Class::ReadOnly | Class::Unknown) || word("USE") || word("SET");
    if (ask.readonly || reader) && !harmless {
        let why = if reader {
            "this user may only read"
        } else {
            "For queries over HTTP, method GET implies readonly. You should use method POST for modifying queries"
        };
        return Err(Exception::new(
            Code::READONLY,
            format_args!("Cannot execute query in readonly mode. {why}"),
        ));
    }
    Ok(analysis.class)
}

/// Puts the engine's ids where a KILL names ours, and remembers them to put ours back into its answer.
fn translate_ids(shared: &Shared, statement: &mut Vec<u8>) -> Vec<(String, String)> {
    if !Lexer::new(statement)
        .next()
        .is_some_and(|first| first.is_word(statement, "KILL"))
    {
        return Vec::new();
    }
    let mut own_ids = Vec::new();
    let mut translated = Vec::new();
    let mut copied = 0;
    for token in Lexer::new(statement).filter(|token| token.kind == Kind::Text) {
        let id = String::from_utf8_lossy(token.content(statement)).into_owned();
        let Some(inner) = shared
            .running
            .mark_of(&id)
            .and_then(|mark| shared.engine.query_ids(&mark).pop())
        else {
            continue;
        };
        translated.extend_from_slice(&statement[copied..token.start]);
        translated.extend_from_slice(format!("'{inner}'").as_bytes());
        copied = token.end;
        own_ids.push((inner, id));
    }
    translated.extend_from_slice(&statement[copied..]);
    *statement = translated;
    own_ids
}

/// A statement that has an answer.
struct Question {
    statement: Vec<u8>,
    format: String,
    streamed: bool,
    params: Vec<Param>,
    /// The engine's id and ours, of the queries that a KILL names.
    own_ids: Vec<(String, String)>,
}

impl Question {
    fn new(shared: &Shared, mut statement: Vec<u8>, class: Class, ask: Ask) -> Self {
        if statement.trim_ascii().eq_ignore_ascii_case(GO_HELLO.as_bytes()) {
            statement = GO_HELLO_INSTEAD.as_bytes().to_vec();
        }
        let own_ids = if class == Class::Control {
            translate_ids(shared, &mut statement)
        } else {
            Vec::new()
        };
        Self {
            format: format_clause(&statement)
                .or(ask.format)
                .unwrap_or_else(|| DEFAULT_FORMAT.to_owned()),
            streamed: class == Class::ReadOnly && !ask.buffered && is_streamable_read(&statement),
            statement,
            params: ask.params,
            own_ids,
        }
    }
}

fn whole(connection: &mut Connection, asked: &Question, sink: &mut Sink) -> Result<(), Exception> {
    let answer = connection.query(&asked.statement, &asked.format, &asked.params)?;
    sink.begin(&asked.format, &answer.stats())?;
    if asked.own_ids.is_empty() {
        return sink.write(answer.bytes());
    }
    let text = asked.own_ids.iter().fold(
        String::from_utf8_lossy(answer.bytes()).into_owned(),
        |text, (inner, own)| text.replace(inner, own),
    );
    sink.write(text.as_bytes())
}

fn stream(
    connection: &mut Connection,
    asked: &Question,
    joining: Joining,
    run: &Run,
    sink: &mut Sink,
) -> Result<(), Exception> {
    let mut stream = connection.stream(&asked.statement, &asked.format, &asked.params)?;
    let Some(first) = stream.fetch()? else {
        return sink.begin(&asked.format, &Stats::default());
    };
    sink.begin(&asked.format, &first.stats())?;
    let header = first
        .bytes()
        .get(..header_length(joining, first.bytes()))
        .unwrap_or_default()
        .to_vec();
    sink.write(first.bytes())?;
    drop(first);
    while let Some(chunk) = stream.fetch()? {
        run.check()?;
        sink.write(
            chunk
                .bytes()
                .strip_prefix(header.as_slice())
                .unwrap_or(chunk.bytes()),
        )?;
    }
    Ok(())
}

fn insert(
    connection: &mut Connection,
    head: &[u8],
    format: &str,
    params: &[Param],
    mut data: impl Read,
    run: &Run,
) -> Result<Stats, Exception> {
    let mut stream = connection.insert(head, format, params)?;
    let mut piece = vec![0; INSERT_PIECE_BYTES];
    loop {
        let filled = fill(&mut data, &mut piece).map_err(|error| body_error(&error))?;
        run.check()?;
        // A refused piece: `finish` tells why.
        if filled == 0 || !stream.append(&piece[..filled]) {
            break;
        }
    }
    Ok(stream.finish()?.stats())
}

/// The text of a request: the URL's part, a line end, and the body, read as far as it is needed.
struct Text {
    bytes: Vec<u8>,
    body: Box<dyn Read + Send>,
    complete: bool,
}

impl Text {
    fn new(query: &str, body: Box<dyn Read + Send>) -> Self {
        let mut bytes = query.as_bytes().to_vec();
        if !bytes.is_empty() {
            bytes.push(b'\n');
        }
        Self {
            bytes,
            body,
            complete: false,
        }
    }

    /// Reads until the head of an INSERT is complete, or to the end of any other statement.
    fn read_head(&mut self) -> Result<Head, Exception> {
        let mut step = 64 << 10;
        loop {
            match split_head(&self.bytes, self.complete) {
                head @ (Head::Insert { .. } | Head::InsertSelect { .. } | Head::InsertUnreadable) => {
                    return Ok(head);
                }
                Head::Whole if self.complete => return Ok(Head::Whole),
                Head::Whole | Head::Incomplete => {}
            }
            if self.bytes.len() > STATEMENT_BYTES_MAX {
                return Err(Exception::new(
                    Code::QUERY_IS_TOO_LARGE,
                    format_args!("The statement is longer than {STATEMENT_BYTES_MAX} bytes"),
                ));
            }
            let start = self.bytes.len();
            self.bytes.resize(start + step, 0);
            let read = fill(&mut self.body, &mut self.bytes[start..]).map_err(|error| body_error(&error))?;
            self.bytes.truncate(start + read);
            self.complete = read < step;
            // A statement without data is read at once; the step grows so that a long one is not scanned too often.
            step *= 4;
        }
    }

    /// What stands behind the head.
    fn rest(self, from: usize) -> impl Read {
        let start = self.bytes.get(from..).unwrap_or_default().to_vec();
        io::Cursor::new(start).chain(self.body)
    }
}
