//! Entry point of `procscope`.

fn main() -> std::process::ExitCode {
    procscope::main()
}
