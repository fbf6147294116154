//! Asks everybody who comes for what proves who they are, and whether that is good for what they want.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::sync::Semaphore;
use tonic::Status;
use tracing::{debug, warn};

use super::{Caller, Scope, Sparse, door::Peer, tokens::Tokens};
use crate::{api::problem::Problem, clock, self_stats::SelfStats};

/// How long one who shows a wrong token waits for the answer.
const DELAY: Duration = Duration::from_millis(500);

/// Those who wait for it at once; further ones are answered at once, for waiting costs us memory.
const DELAYED_MAX: usize = 1_024;

/// A token is some 90 bytes; nobody sends us longer ones in good faith.
const TOKEN_BYTES_MAX: usize = 1_024;

/// The guard of one port.
#[derive(Debug, Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tokens: Arc<Tokens>,
    stats: Arc<SelfStats>,
    /// Asking needs no credential: this machine alone can reach the port, or somebody said `--insecure`.
    reading_is_open: bool,
    delayed: Semaphore,
    said: Sparse,
}

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nothing that proves anything, or nothing good.
    Unknown(String),
    /// Known, and not allowed this.
    Forbidden(String),
}

impl Guard {
    /// A guard who knows `tokens`.
    #[must_use]
    pub fn new(tokens: Arc<Tokens>, stats: Arc<SelfStats>, reading_is_open: bool) -> Self {
        let inner = Inner {
            tokens,
            stats,
            reading_is_open,
            delayed: Semaphore::new(DELAYED_MAX),
            said: Sparse::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Who this is, if that is enough for `needed`.
    ///
    /// # Errors
    /// Why not. A wrong token is told so late, so that nobody tries many.
    pub async fn admit(
        &self,
        needed: Scope,
        peer: Option<&Peer>,
        headers: &HeaderMap,
    ) -> Result<Caller, Denied> {
        let decided = self.decide(needed, peer, headers);
        let Err(denied) = &decided else { return decided };
        let (reason, why) = match denied {
            Denied::Unknown(why) => ("token", why),
            Denied::Forbidden(why) => ("scope", why),
        };
        self.inner.stats.refused(reason);
        let from = peer.map_or_else(String::new, |peer| peer.address.to_string());
        if self.inner.said.is_due() {
            warn!(
                from,
                why, "somebody was not let in; the next line comes in 10 s at the earliest"
            );
        } else {
            debug!(from, why, "somebody was not let in");
        }
        if reason == "token"
            && let Ok(_turn) = self.inner.delayed.try_acquire()
        {
            tokio::time::sleep(DELAY).await;
        }
        decided
    }

    fn decide(&self, needed: Scope, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Caller, Denied> {
        let certificate = peer.and_then(|peer| peer.certificate.as_deref());
        let found = match bearer(headers)? {
            None => None,
            Some(text) => {
                let found = self.inner.tokens.find(text, clock::now_ms());
                Some(found.map_err(|refused| Denied::Unknown(refused.to_string()))?)
            }
        };
        let mut names = Vec::new();
        let mut scopes = Vec::new();
        let (mut agent_id, mut host, mut held) = (None, None, None);
        if let Some(certified) = certificate {
            names.push(certified.uri.clone());
            scopes.extend(certified.scope);
            agent_id = certified.agent_id;
            host = certified.host.as_deref().map(Into::into);
        }
        if let Some(found) = found {
            names.push(found.name.to_string());
            scopes.push(found.scope);
            if agent_id.is_some() && found.agent_id.is_some() && agent_id != found.agent_id {
                return Err(Denied::Forbidden(
                    "the certificate and the token are of two agents".to_owned(),
                ));
            }
            agent_id = agent_id.or(found.agent_id);
            host = host.or(found.host);
            held = found.held;
        }
        let is_open = self.inner.reading_is_open && needed == Scope::Query && names.is_empty();
        if !is_open && !scopes.iter().any(|scope| scope.allows(needed)) {
            let word = needed.word();
            return Err(if names.is_empty() {
                Denied::Unknown(format!(
                    "metadata `authorization: Bearer TOKEN` with a token of scope {word} is missing, and no \
                     certificate was shown"
                ))
            } else {
                Denied::Forbidden(format!("{} is not good for {word}", names.join(" with ")))
            });
        }
        Ok(Caller {
            name: names.join(" with ").into(),
            agent_id,
            host,
            token: held,
            certificate: peer.and_then(|peer| peer.shown.clone()),
            reserved: self.inner.tokens.table(),
        })
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| text.len() <= TOKEN_BYTES_MAX);
    match text.and_then(|text| text.split_once(' ')) {
        Some((kind, token)) if kind.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(Denied::Unknown(
            "`authorization` is not `Bearer TOKEN`".to_owned(),
        )),
    }
}

/// What a method of the gRPC port wants; `None`: anybody may.
fn needed(path: &str) -> Option<Scope> {
    match path.trim_start_matches('/').split('/').next() {
        Some("procscope.v1.IngestService") => Some(Scope::Ingest),
        Some("grpc.health.v1.Health") => None,
        _ => Some(Scope::Query),
    }
}

/// Before every method of the gRPC port.
pub async fn grpc(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let Some(needed) = needed(request.uri().path()) else {
        return anybodys(peer.as_ref(), request, next).await;
    };
    match guard.admit(needed, peer.as_ref(), request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            let_in(peer.as_ref(), request, next).await
        }
        Err(Denied::Unknown(why)) => Status::unauthenticated(why).into_http(),
        Err(Denied::Forbidden(why)) => Status::permission_denied(why).into_http(),
    }
}

/// Answers what anybody may ask.
async fn anybodys(peer: Option<&Peer>, request: Request, next: Next) -> Response {
    if let Some(peer) = peer {
        peer.activity.asked();
    }
    next.run(request).await
}

/// Answers one who was let in, whose connection stays meanwhile.
async fn let_in(peer: Option<&Peer>, request: Request, next: Next) -> Response {
    let turn = peer.map(|peer| peer.activity.begin());
    let answer = next.run(request).await;
    match turn {
        Some(turn) => turn.over(answer),
        None => answer,
    }
}

/// Before every route of the HTTP port but those that say whether we live.
pub async fn http(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let peer = request
        .extensions()
        .get::<ConnectInfo<Peer>>()
        .map(|info| info.0.clone());
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return anybodys(peer.as_ref(), request, next).await;
    }
    match guard.admit(Scope::Query, peer.as_ref(), request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller.clone());
            let mut response = let_in(peer.as_ref(), request, next).await;
            // For the log, which is written outside of us.
            response.extensions_mut().insert(caller);
            response
        }
        Err(Denied::Unknown(why)) => {
            let ask = [(header::WWW_AUTHENTICATE, "Bearer")];
            (ask, Problem::new(StatusCode::UNAUTHORIZED, why)).into_response()
        }
        Err(Denied::Forbidden(why)) => Problem::new(StatusCode::FORBIDDEN, why).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        access::{
            tls::Certified,
            tokens::{Request, create},
        },
        config::Secret,
    };

    struct Site {
        guard: Guard,
        tokens: Vec<(Scope, String)>,
        _dir: tempfile::TempDir,
    }

    fn site(reading_is_open: bool) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let make = |scope| {
            let request = Request {
                scope,
                name: String::new(),
                agent_id: None,
                host: None,
                expires: None,
            };
            (scope, create(dir.path(), &request, clock::now_ms()).unwrap())
        };
        let tokens = [Scope::Ingest, Scope::Query, Scope::Admin].map(make).to_vec();
        let shared = Secret::new("shared".to_owned());
        let known = Tokens::open(Some(dir.path()), Some(&shared)).unwrap();
        Site {
            guard: Guard::new(Arc::new(known), Arc::new(SelfStats::new()), reading_is_open),
            tokens,
            _dir: dir,
        }
    }

    fn peer(certified: Option<Certified>) -> Peer {
        Peer {
            certificate: certified.map(Arc::new),
            ..Peer::new(([127, 0, 0, 1], 1).into())
        }
    }

    fn headers(token: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        headers
    }

    #[test]
    fn each_token_is_good_for_its_scope_and_no_other() {
        let site = site(false);
        for (scope, token) in &site.tokens {
            for needed in [Scope::Ingest, Scope::Query, Scope::Admin] {
                let decided = site.guard.decide(needed, None, &headers(Some(token)));
                if scope.allows(needed) {
                    assert!(decided.is_ok(), "{scope:?} {needed:?}");
                } else {
                    assert!(
                        matches!(decided, Err(Denied::Forbidden(_))),
                        "{scope:?} {needed:?}"
                    );
                }
            }
        }
        for needed in [Scope::Ingest, Scope::Query, Scope::Admin] {
            for token in [None, Some("wrong")] {
                let decided = site.guard.decide(needed, None, &headers(token));
                assert!(matches!(decided, Err(Denied::Unknown(_))), "{needed:?} {token:?}");
            }
        }
        assert!(
            site.guard
                .decide(Scope::Ingest, None, &headers(Some("shared")))
                .is_ok()
        );
    }

    #[test]
    fn open_reading_opens_nothing_else_and_forgives_no_wrong_token() {
        let site = site(true);
        assert!(site.guard.decide(Scope::Query, None, &headers(None)).is_ok());
        for needed in [Scope::Ingest, Scope::Admin] {
            assert!(site.guard.decide(needed, None, &headers(None)).is_err());
        }
        assert!(
            site.guard
                .decide(Scope::Query, None, &headers(Some("wrong")))
                .is_err()
        );
    }

    #[test]
    fn a_certificate_and_a_token_say_the_same_or_nothing() {
        let site = site(false);
        let (one, two) = (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16]));
        let agent = |id: Uuid| {
            peer(Some(Certified {
                uri: format!("spiffe://site/agent/{id}/host-1"),
                scope: Some(Scope::Ingest),
                agent_id: Some(id),
                host: Some("host-1".to_owned()),
            }))
        };
        let caller = site
            .guard
            .decide(Scope::Ingest, Some(&agent(one)), &headers(None))
            .unwrap();
        assert!(caller.may_be_agent(one).is_ok() && caller.may_be_agent(two).is_err());
        assert!(caller.may_speak_of("host-1").is_ok() && caller.may_speak_of("host-2").is_err());
        let caller = site
            .guard
            .decide(Scope::Ingest, Some(&agent(two)), &headers(Some("shared")))
            .unwrap();
        assert!(
            caller.may_be_agent(one).is_err(),
            "a shared token loosens no certificate"
        );
        assert!(
            site.guard
                .decide(Scope::Query, Some(&agent(one)), &headers(None))
                .is_err()
        );
    }

    #[test]
    fn an_agent_with_a_token_of_its_own_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let id = Uuid::from_bytes([7; 16]);
        let request = Request {
            scope: Scope::Ingest,
            name: String::new(),
            agent_id: Some(id),
            host: None,
            expires: None,
        };
        let own = create(dir.path(), &request, clock::now_ms()).unwrap();
        let shared = Secret::new("shared".to_owned());
        let tokens = Tokens::open(Some(dir.path()), Some(&shared)).unwrap();
        let guard = Guard::new(Arc::new(tokens), Arc::new(SelfStats::new()), false);
        let caller = |token: &str| guard.decide(Scope::Ingest, None, &headers(Some(token))).unwrap();
        assert!(caller(&own).may_be_agent(id).is_ok());
        assert!(caller("shared").may_be_agent(id).is_err());
        assert!(caller("shared").may_be_agent(Uuid::from_bytes([8; 16])).is_ok());
    }

    #[test]
    fn what_is_no_bearer_token_is_said_so() {
        for text in ["Basic abc", "Bearer", &format!("Bearer {}", "x".repeat(2_000))] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
            assert!(matches!(bearer(&headers), Err(Denied::Unknown(_))), "{text}");
        }
    }
}
