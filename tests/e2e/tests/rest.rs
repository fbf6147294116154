//! REST as a tool sees it that knows nothing but our `OpenAPI` document: many requests that fit it and many that do not.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::{Stack, alone, python_program};

#[test]
fn schemathesis_finds_no_answer_that_the_document_does_not_describe() -> Result<()> {
    let _alone = alone();
    let stack = Stack::start()?;
    stack.wait_for_intervals(5)?;
    // Its own list lacks what HTTP itself refuses.
    let config = stack.path("schemathesis.toml");
    fs::write(
        &config,
        "[checks.negative_data_rejection]\nexpected-statuses = [400, 401, 403, 404, 405, 406, 409, 414, 415, 422, 428, \
         429, \"5xx\"]\n",
    )?;
    let output = Command::new("timeout")
        .arg("120")
        .arg(python_program("schemathesis")?)
        .args([
            "--config-file",
            &config,
            "run",
            &format!("{}/api/openapi.json", stack.http()),
        ])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance",
        ])
        .args([
            "--checks",
            "response_schema_conformance,negative_data_rejection,unsupported_method",
        ])
        // A live stream does not end, and a WebSocket is no answer.
        .args(["--exclude-path-regex", "^/api/v1/live"])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args([
            "--max-examples",
            "30",
            "--request-timeout",
            "20",
            "--seed",
            "7",
            "--no-color",
        ])
        .output()
        .context("run schemathesis")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn grpcio_knows_the_collector_by_reflection_alone() -> Result<()> {
    let _alone = alone();
    let stack = Stack::start()?;
    let output = Command::new(python_program("python3")?)
        .args(["-c", include_str!("rest/grpc_client.py"), &stack.grpc()])
        .output()
        .context("run Python")?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}
