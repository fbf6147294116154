//! Keeps `deploy/` true: manifests, units, images and dashboards are parsed by the tools that will read them, and
//! run where that is possible.
//!
//! Needs root, and what `cargo xtask setup --tests` installs:
//! - Debian: buildah, curl, kubernetes-client (any `kubectl` with kustomize will do), podman, python3-venv, runc,
//!   systemd (for `systemd-analyze`), util-linux (for `setpriv`)
//! - npm, in the cache's `npm`: `@grafana/schema`, `typescript`
//! - `PyPI`, in the cache's `venv`: kubernetes-validate (it brings `PyYAML`, which is used as well)
//! - the engine's library, and the eBPF compiler, as for every build of the agent
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what is wrong by stopping at it"
)]

#[path = "deploy/grafana.rs"]
mod grafana;
#[path = "deploy/image.rs"]
mod image;
#[path = "deploy/kubernetes.rs"]
mod kubernetes;
#[path = "deploy/pages.rs"]
mod pages;
#[path = "deploy/store.rs"]
mod store;
#[path = "deploy/systemd.rs"]
mod systemd;
#[path = "deploy/tools.rs"]
mod tools;
