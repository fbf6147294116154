//! Tokens from birth to end.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;

fn request(scope: Scope) -> Request {
    Request {
        scope,
        name: "a name".to_owned(),
        agent_id: None,
        host: None,
        expires: None,
    }
}

#[test]
fn a_token_is_known_by_its_text_alone_and_the_file_does_not_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let text = create(dir.path(), &request(Scope::Query), NOW_MS).unwrap();
    let tokens = Tokens::open(Some(dir.path()), None).unwrap();
    assert_eq!(tokens.find(&text, NOW_MS).unwrap().scope, Scope::Query);
    let file = dir.path().join(FILE);
    let kept = std::fs::read_to_string(&file).unwrap();
    let (_, secret) = text.strip_prefix(PREFIX).unwrap().split_once('_').unwrap();
    assert!(
        secret.len() == 2 * SECRET_BYTES && !kept.contains(secret),
        "{kept}"
    );
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut wrong = text.clone();
    wrong.pop();
    for wrong in [wrong.as_str(), "", "procscope_", "procscope_x_y", &kept] {
        assert_eq!(
            tokens.find(wrong, NOW_MS).unwrap_err(),
            Refused::Unknown,
            "{wrong}"
        );
    }
}

#[test]
fn two_are_good_at_once_and_each_ends_alone() {
    let dir = tempfile::tempdir().unwrap();
    let old = create(dir.path(), &request(Scope::Ingest), NOW_MS).unwrap();
    let new = create(dir.path(), &request(Scope::Ingest), NOW_MS).unwrap();
    let good = |text: &str| {
        let tokens = Tokens::open(Some(dir.path()), None).unwrap();
        tokens.find(text, NOW_MS).is_ok()
    };
    assert!(good(&old) && good(&new));
    revoke(dir.path(), &old).unwrap();
    assert!(!good(&old) && good(&new));
    assert_eq!(revoke(dir.path(), &old).unwrap_err().code(), 1);
    let id = list(dir.path()).unwrap()[0].id.clone();
    revoke(dir.path(), &id).unwrap();
    assert!(!good(&new));
}

#[test]
fn a_token_ends_at_its_second() {
    let dir = tempfile::tempdir().unwrap();
    let request = Request {
        expires: Some(Duration::from_mins(1)),
        ..request(Scope::Ingest)
    };
    let text = create(dir.path(), &request, NOW_MS).unwrap();
    let tokens = Tokens::open(Some(dir.path()), None).unwrap();
    assert!(tokens.find(&text, NOW_MS + 59_999).is_ok());
    assert_eq!(tokens.find(&text, NOW_MS + 60_000).unwrap_err(), Refused::Expired);
}

#[test]
fn the_shared_secret_stays_good_beside_them() {
    let shared = Secret::new("made-by-set-up".to_owned());
    let tokens = Tokens::open(None, Some(&shared)).unwrap();
    assert!(!tokens.is_empty());
    let found = tokens.find("made-by-set-up", NOW_MS).unwrap();
    assert!(found.scope == Scope::Ingest && found.agent_id.is_none());
    assert!(tokens.find("made-by-set-u", NOW_MS).is_err());
    assert!(!format!("{tokens:?}").contains("made-by-set-up"));
}

#[test]
fn what_cannot_be_asked_for_or_read_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let bound = Request {
        agent_id: Some(Uuid::from_bytes([1; 16])),
        ..request(Scope::Query)
    };
    assert_eq!(create(dir.path(), &bound, NOW_MS).unwrap_err().code(), 2);
    create(dir.path(), &request(Scope::Ingest), NOW_MS).unwrap();
    let file = dir.path().join(FILE);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o604)).unwrap();
    assert!(
        Tokens::open(Some(dir.path()), None)
            .unwrap_err()
            .to_string()
            .contains("0600")
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, "[[token]]\nid = 1").unwrap();
    assert_eq!(Tokens::open(Some(dir.path()), None).unwrap_err().code(), 2);
}

#[tokio::test]
async fn who_shows_a_token_hears_when_it_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let text = create(dir.path(), &request(Scope::Ingest), crate::clock::now_ms()).unwrap();
    let tokens = Arc::new(Tokens::open(Some(dir.path()), None).unwrap());
    let held = tokens.find(&text, crate::clock::now_ms()).unwrap().held.unwrap();
    let follower = Arc::clone(&tokens);
    let following = tokio::spawn(async move { follower.follow(&SelfStats::new()).await });
    revoke(dir.path(), &text).unwrap();
    let said = tokio::time::timeout(Duration::from_secs(20), held.lapsed()).await;
    assert_eq!(said.unwrap(), "the token was revoked");
    following.abort();
}
