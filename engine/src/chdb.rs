//! libchdb by `dlopen`: the one file with its C functions, and safe types around its handles.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fmt,
    marker::PhantomData,
    path::Path,
    ptr::{self, NonNull},
    slice,
};

use crate::{exception::Exception, policy::Class, stats::Stats};

/// A query parameter: its name and its value, as the client sent them.
pub type Param = (String, String);

type RawConnection = *mut c_void;
type RawResult = *mut c_void;
type RawInsert = *mut c_void;
type Bytes = *const c_char;

/// The functions that begin a statement all take: connection, text, format, and the parameters' names and values,
/// everything with its length.
type Begin = unsafe extern "C" fn(
    RawConnection,
    Bytes,
    usize,
    Bytes,
    usize,
    *const Bytes,
    *const usize,
    *const Bytes,
    *const usize,
    usize,
) -> *mut c_void;

/// `chdb_query_analysis_v1` of chdb.h.
#[repr(C)]
struct RawAnalysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

/// `struct_size` as chdb.h wants it.
const RAW_ANALYSIS_BYTES: u32 = 16;
const _: () = assert!(size_of::<RawAnalysis>() == 16, "no implicit padding");

macro_rules! functions {
    ([$($begin:ident),*] $($name:ident: fn($($argument:ty),*) $(-> $answer:ty)?;)*) => {
        /// The C functions of chdb.h that we use, looked up once.
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $answer)?,)*
            $($begin: Begin,)*
        }

        impl Functions {
            fn load(library: &libloading::Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    $($name: {
                        // SAFETY: the type is the one that chdb.h of 26.7 declares under this name; the library
                        // is never closed (see `Chdb::open`), so nobody can take the function away.
                        let symbol = unsafe {
                            library.get::<unsafe extern "C" fn($($argument),*) $(-> $answer)?>(stringify!($name))
                        }?;
                        *symbol
                    },)*
                    $($begin: {
                        // SAFETY: as above.
                        let symbol = unsafe { library.get::<Begin>(stringify!($begin)) }?;
                        *symbol
                    },)*
                })
            }
        }
    };
}

functions! {
    [chdb_query_with_params_n, chdb_stream_query_with_params_n, chdb_stream_insert_with_params_n]
    chdb_version: fn() -> Bytes;
    chdb_set_signal_handlers_enabled: fn(c_int);
    chdb_connect: fn(c_int, *mut *mut c_char) -> *mut RawConnection;
    chdb_close_conn: fn(*mut RawConnection);
    chdb_stream_fetch_result: fn(RawConnection, RawResult) -> RawResult;
    chdb_stream_cancel_query: fn(RawConnection, RawResult);
    chdb_destroy_query_result: fn(RawResult);
    chdb_stream_append: fn(RawInsert, *const c_void, usize) -> c_int;
    chdb_stream_done: fn(RawInsert) -> RawResult;
    chdb_stream_insert_error: fn(RawInsert) -> Bytes;
    chdb_destroy_insert_stream: fn(RawInsert);
    chdb_result_buffer: fn(RawResult) -> Bytes;
    chdb_result_length: fn(RawResult) -> usize;
    chdb_result_rows_read: fn(RawResult) -> u64;
    chdb_result_storage_rows_read: fn(RawResult) -> u64;
    chdb_result_storage_bytes_read: fn(RawResult) -> u64;
    chdb_result_rows_written: fn(RawResult) -> u64;
    chdb_result_bytes_written: fn(RawResult) -> u64;
    chdb_result_error: fn(RawResult) -> Bytes;
    chdb_classify_query_n: fn(RawConnection, Bytes, usize, Bytes, usize, *mut RawAnalysis) -> c_int;
}

/// The opened library.
pub struct Chdb {
    functions: Functions,
}

impl fmt::Debug for Chdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chdb")
    }
}

impl Chdb {
    /// Opens the library for the rest of the process and switches its signal handlers off.
    ///
    /// # Errors
    /// When the file is no library for this machine, or lacks a function (it is older than 26.7).
    pub fn open(path: &Path) -> Result<&'static Self, libloading::Error> {
        // SAFETY: the initialisers of libchdb run here, once, before this process has a second thread.
        let library = unsafe { libloading::Library::new(path) }?;
        // Leaked: its threads outlive every handle, so it can never be closed.
        let library = Box::leak(Box::new(library));
        let functions = Functions::load(library)?;
        // SAFETY: no connection exists yet, and only this thread does.
        unsafe { (functions.chdb_set_signal_handlers_enabled)(0) };
        Ok(Box::leak(Box::new(Self { functions })))
    }

    /// The library's own version, such as `26.7.3`.
    #[must_use]
    pub fn version(&self) -> String {
        // SAFETY: takes nothing and answers with a constant of the library.
        let text = unsafe { (self.functions.chdb_version)() };
        c_text(text).unwrap_or_default()
    }

    /// Opens a connection: a session of its own, with the settings among `arguments`. The first one starts the engine.
    #[must_use]
    pub fn connect(&'static self, arguments: &[String]) -> Option<Connection> {
        let owned: Vec<_> = arguments
            .iter()
            .filter_map(|argument| CString::new(argument.as_bytes()).ok())
            .collect();
        let mut pointers: Vec<*mut c_char> = owned
            .iter()
            .map(|argument| argument.as_ptr().cast_mut())
            .collect();
        let count = c_int::try_from(pointers.len()).ok()?;
        // SAFETY: `count` pointers to texts that live until the call returns; the engine copies them and locks
        // its own start against other threads that connect at the same time.
        let handle = unsafe { (self.functions.chdb_connect)(count, pointers.as_mut_ptr()) };
        Some(Connection {
            chdb: self,
            handle: NonNull::new(handle)?,
        })
    }
}

/// One connection: a session of the engine that runs one statement at a time.
pub struct Connection {
    chdb: &'static Chdb,
    handle: NonNull<RawConnection>,
}

// SAFETY: the engine ties a connection to no thread; `&mut self` on every method keeps all but one thread away.
unsafe impl Send for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// What the engine's parser says of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Analysis {
    /// How many statements it holds; 0 when it does not parse.
    pub statements: u32,
    /// The most far-reaching of them.
    pub class: Class,
}

impl Connection {
    fn raw(&self) -> RawConnection {
        // SAFETY: the handle points to a connection until `drop` closes it; nobody else writes there.
        unsafe { *self.handle.as_ptr() }
    }

    /// Says what a text would do, without running it.
    pub fn classify(&mut self, text: &[u8]) -> Analysis {
        let mut raw = RawAnalysis {
            struct_size: RAW_ANALYSIS_BYTES,
            statement_count: 0,
            flags: 0,
            query_class: 4,
        };
        // SAFETY: text and length belong together, no target database is allowed, and `raw` is ours alone.
        let state = unsafe {
            (self.chdb.functions.chdb_classify_query_n)(
                self.raw(),
                text.as_ptr().cast(),
                text.len(),
                ptr::null(),
                0,
                &raw mut raw,
            )
        };
        let class = match raw.query_class {
            0 if state == 0 => Class::ReadOnly,
            1 if state == 0 => Class::Mutating,
            2 if state == 0 => Class::MutatingGlobal,
            3 if state == 0 => Class::Control,
            _ => Class::Unknown,
        };
        Analysis {
            statements: raw.statement_count,
            class,
        }
    }

    /// Begins a statement; the engine copies everything it needs before it answers.
    fn begin(&mut self, function: Begin, text: &[u8], format: &str, params: &[Param]) -> *mut c_void {
        let bytes = |text: &String| text.as_ptr().cast();
        let names: Vec<Bytes> = params.iter().map(|(name, _)| bytes(name)).collect();
        let name_lengths: Vec<_> = params.iter().map(|(name, _)| name.len()).collect();
        let values: Vec<Bytes> = params.iter().map(|(_, value)| bytes(value)).collect();
        let value_lengths: Vec<_> = params.iter().map(|(_, value)| value.len()).collect();
        // SAFETY: `function` is one of the three of this type in `Functions`; every pointer comes with its length
        // from a slice that lives until the call returns; `&mut self` keeps other statements off this connection.
        unsafe {
            function(
                self.raw(),
                text.as_ptr().cast(),
                text.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                params.len(),
            )
        }
    }

    /// Runs a statement and holds its whole answer.
    ///
    /// # Errors
    /// What the engine says.
    pub fn query(&mut self, text: &[u8], format: &str, params: &[Param]) -> Result<Answer<'_>, Exception> {
        let raw = self.begin(self.chdb.functions.chdb_query_with_params_n, text, format, params);
        Answer::new(self.chdb, raw)
    }

    /// Starts a SELECT whose rows are fetched in chunks.
    ///
    /// # Errors
    /// What the engine says.
    pub fn stream(&mut self, text: &[u8], format: &str, params: &[Param]) -> Result<Stream<'_>, Exception> {
        let raw = self.begin(
            self.chdb.functions.chdb_stream_query_with_params_n,
            text,
            format,
            params,
        );
        let handle = Answer::new(self.chdb, raw)?.into_raw();
        Ok(Stream {
            connection: self,
            handle,
            ended: false,
        })
    }

    /// Starts an INSERT whose data is appended piece by piece; `head` holds no FORMAT clause and no data.
    ///
    /// # Errors
    /// What the engine says.
    pub fn insert(
        &mut self,
        head: &[u8],
        format: &str,
        params: &[Param],
    ) -> Result<InsertStream<'_>, Exception> {
        let handle = self.begin(
            self.chdb.functions.chdb_stream_insert_with_params_n,
            head,
            format,
            params,
        );
        let stream = InsertStream {
            chdb: self.chdb,
            handle,
            connection: PhantomData,
        };
        match stream.error() {
            None => Ok(stream),
            Some(error) => Err(error),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: closed once, here; every stream borrows the connection, so none is left.
        unsafe { (self.chdb.functions.chdb_close_conn)(self.handle.as_ptr()) };
    }
}

/// One answer of the engine: bytes in the format asked for.
pub struct Answer<'a> {
    chdb: &'static Chdb,
    raw: RawResult,
    connection: PhantomData<&'a mut Connection>,
}

impl fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("bytes", &self.bytes().len())
            .finish()
    }
}

impl Answer<'_> {
    /// Takes the result over, or its error out of it.
    fn new(chdb: &'static Chdb, raw: RawResult) -> Result<Self, Exception> {
        if raw.is_null() {
            return Err(Exception::from_engine("the engine gave no answer"));
        }
        let answer = Self {
            chdb,
            raw,
            connection: PhantomData,
        };
        // SAFETY: `raw` is a live result that this value alone holds.
        let error = unsafe { (chdb.functions.chdb_result_error)(raw) };
        match c_text(error) {
            None => Ok(answer),
            Some(text) => Err(Exception::from_engine(&text)),
        }
    }

    /// Gives the handle away without freeing it.
    fn into_raw(self) -> RawResult {
        let raw = self.raw;
        std::mem::forget(self);
        raw
    }

    /// The formatted rows.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `raw` is a live result that this value alone holds.
        let length = unsafe { (self.chdb.functions.chdb_result_length)(self.raw) };
        // SAFETY: as above.
        let buffer = unsafe { (self.chdb.functions.chdb_result_buffer)(self.raw) };
        if buffer.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: the result owns `length` bytes at `buffer`, changes them no more, and lives as long as `self`.
        unsafe { slice::from_raw_parts(buffer.cast(), length) }
    }

    /// What it took.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let functions = &self.chdb.functions;
        let ask = |function: unsafe extern "C" fn(RawResult) -> u64| {
            // SAFETY: `raw` is a live result that this value alone holds, and the function only reads it.
            unsafe { function(self.raw) }
        };
        Stats {
            result_rows: ask(functions.chdb_result_rows_read),
            read_rows: ask(functions.chdb_result_storage_rows_read),
            read_bytes: ask(functions.chdb_result_storage_bytes_read),
            written_rows: ask(functions.chdb_result_rows_written),
            written_bytes: ask(functions.chdb_result_bytes_written),
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        // SAFETY: freed once, here; `bytes` borrows from `self`, so no slice of it is left.
        unsafe { (self.chdb.functions.chdb_destroy_query_result)(self.raw) };
    }
}

/// A SELECT that runs; dropping it cancels what is left.
pub struct Stream<'a> {
    connection: &'a mut Connection,
    handle: RawResult,
    ended: bool,
}

impl Stream<'_> {
    /// Waits for the next chunk, a document of its own; `None` at the end.
    ///
    /// # Errors
    /// What the engine says.
    pub fn fetch(&mut self) -> Result<Option<Answer<'_>>, Exception> {
        if self.ended {
            return Ok(None);
        }
        // SAFETY: connection and handle are live, and `&mut self` keeps fetches and cancel apart.
        let raw = unsafe {
            (self.connection.chdb.functions.chdb_stream_fetch_result)(self.connection.raw(), self.handle)
        };
        match Answer::new(self.connection.chdb, raw) {
            Ok(answer) if answer.bytes().is_empty() => {
                self.ended = true;
                Ok(None)
            }
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                self.ended = true;
                Err(error)
            }
        }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        let functions = &self.connection.chdb.functions;
        if !self.ended {
            // SAFETY: connection and handle are live, and no fetch runs, for it would borrow `self`.
            unsafe { (functions.chdb_stream_cancel_query)(self.connection.raw(), self.handle) };
        }
        // SAFETY: freed once, here.
        unsafe { (functions.chdb_destroy_query_result)(self.handle) };
    }
}

/// An INSERT that takes data; dropping it before `finish` cancels it.
pub struct InsertStream<'a> {
    chdb: &'static Chdb,
    handle: RawInsert,
    connection: PhantomData<&'a mut Connection>,
}

impl<'a> InsertStream<'a> {
    fn error(&self) -> Option<Exception> {
        // SAFETY: the handle is live until `drop`, and only this value uses it.
        let text = unsafe { (self.chdb.functions.chdb_stream_insert_error)(self.handle) };
        c_text(text).map(|text| Exception::from_engine(&text))
    }

    /// Hands over the next bytes in the stream's format; waits while the engine has enough. `false`: the insert has
    /// failed, and `finish` tells why.
    pub fn append(&mut self, data: &[u8]) -> bool {
        // SAFETY: pointer and length are one slice, which the engine copies before it returns.
        let state = unsafe {
            (self.chdb.functions.chdb_stream_append)(self.handle, data.as_ptr().cast(), data.len())
        };
        state == 0
    }

    /// Ends the data and commits it.
    ///
    /// # Errors
    /// What the engine says.
    pub fn finish(self) -> Result<Answer<'a>, Exception> {
        // SAFETY: called once, as it takes `self`; the handle is freed by `drop` afterwards.
        let raw = unsafe { (self.chdb.functions.chdb_stream_done)(self.handle) };
        Answer::new(self.chdb, raw)
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: freed once, here; the engine cancels first what was not finished.
        unsafe { (self.chdb.functions.chdb_destroy_insert_stream)(self.handle) };
    }
}

/// Leaves at once: no destructor of the library runs while its threads still do.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: ends every thread; nothing can run afterwards.
    unsafe { libc::_exit(c_int::from(code)) }
}

/// A copy of a C text; `None` for null and for an empty one.
fn c_text(text: Bytes) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and the callers pass texts that the library keeps, NUL-terminated and unchanged, while we copy.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
}
