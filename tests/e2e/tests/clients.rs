//! Clients of ClickHouse that are not ours, as they are published, against the engine. Each has a script in `clients/`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::{Stack, cache};

/// Runs a script; it says `good` in the end.
fn check(script: &mut Command) -> Result<()> {
    let output = script
        .output()
        .context("run the client: `cargo xtask setup --tests` installs it")?;
    let (said, failed) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success() && said.trim() == "good", "{said}{failed}");
    Ok(())
}

#[test]
fn python_and_node_create_insert_and_ask() -> Result<()> {
    let mut stack = Stack::new()?;
    stack.start_engine()?;
    let (port, password) = stack.engine_door();
    let (port, cache) = (port.to_string(), cache()?);
    check(
        Command::new(cache.join("venv/bin/python3"))
            .args(["tests/clients/connect.py", "127.0.0.1", &port, password])
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    )
    .context("clickhouse-connect")?;
    check(
        Command::new("node")
            .args([
                "tests/clients/client.mjs",
                &format!("http://127.0.0.1:{port}"),
                password,
            ])
            .arg(cache.join("npm"))
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    )
    .context("@clickhouse/client")
}
