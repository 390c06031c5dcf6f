//! Tokens and the ledger, without a network.
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};

use super::ledger::Ledger;
use super::proof::Key;
use super::token::{Secret, TokenId};
use super::*;

fn token() -> Token {
    Token {
        id: TokenId([1; 16]),
        secret: Secret([0xd7; 32]),
        fingerprint: Fingerprint::from_bytes([3; 32]),
        expires_unix_seconds: 1_800_000_000,
        address: "db1.example:7000".parse().unwrap(),
    }
}

fn ledger() -> (tempfile::TempDir, PathBuf, Ledger) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    let ledger = Ledger::new(PrivateDirectory::open_or_create(&path).unwrap());
    (parent, path, ledger)
}

#[test]
fn a_token_reads_back_and_keeps_its_text_form() {
    let text = token().to_string();
    let golden = "failback-pair-1:AQEBAQEBAQEBAQEBAQEBAdfX19fX19fX19fX19fX19fX19fX19fX19fX19fX19fXAwMDAwMDAwMDAwMDAwMD\
                  AwMDAwMDAwMDAwMDAwMDAwMA0klrAAAAABBkYjEuZXhhbXBsZTo3MDAwmJhXgg";
    assert_eq!(text, golden);
    assert_eq!(format!("  {text}\n").parse(), Ok(token()));
    assert!(!text.contains(char::is_whitespace));
}

#[test]
fn damaged_tokens_are_told_from_other_text() {
    let text = token().to_string();
    for length in PREFIX_LENGTH..text.len() {
        assert_eq!(text[..length].parse::<Token>(), Err(InvalidToken::Damaged), "cut at {length}");
    }
    for at in PREFIX_LENGTH..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(String::from_utf8(bytes).unwrap().parse::<Token>().is_err(), "changed at {at}");
    }
    assert_eq!("".parse::<Token>(), Err(InvalidToken::NoToken));
    assert_eq!("failback-pair-2:AAAA".parse::<Token>(), Err(InvalidToken::NoToken));
    let endless = format!("failback-pair-1:{}", "A".repeat(1 << 20));
    assert_eq!(endless.parse::<Token>(), Err(InvalidToken::Damaged));
}

const PREFIX_LENGTH: usize = "failback-pair-1:".len();

#[test]
fn only_the_text_form_shows_the_secret() {
    let shown = format!("{:?} {:?}", token(), "failback-pair-1:!".parse::<Token>());
    for encoded in [BASE64URL_NOPAD.encode(&[0xd7; 32]), HEXLOWER.encode(&[0xd7; 32]), "215, 215".to_owned()]
    {
        assert!(!shown.contains(&encoded), "{shown}");
    }
}

#[test]
fn a_token_on_disk_is_not_the_secret_and_is_spent_once() {
    let (_parent, path, ledger) = ledger();
    let identity = Identity::load_or_create(&path).unwrap();
    let token = issue(&path, &"a:1".parse().unwrap(), &identity).unwrap();
    let stored = std::fs::read_to_string(path.join("pairing.json")).unwrap();
    assert!(!stored.contains(&HEXLOWER.encode(&token.secret.0)));
    let right = |key: &Key| *key == token.key();
    assert!(ledger.spend(token.id, SystemTime::now(), right).unwrap().is_ok());
    let again = Ledger::new(PrivateDirectory::open_or_create(&path).unwrap());
    assert_eq!(again.spend(token.id, SystemTime::now(), right).unwrap().err(), Some(Refusal::Spent));
}

#[test]
fn five_wrong_proofs_void_a_token_and_nothing_else() {
    let (_parent, path, ledger) = ledger();
    let identity = Identity::load_or_create(&path).unwrap();
    let issue = || issue(&path, &"a:1".parse().unwrap(), &identity).unwrap();
    let (token, other) = (issue(), issue());
    let now = SystemTime::now();
    for _ in 0..limits::PAIRING_ATTEMPTS_MAX {
        assert_eq!(ledger.spend(token.id, now, |_| false).unwrap().err(), Some(Refusal::WrongProof));
    }
    assert_eq!(ledger.spend(token.id, now, |_| true).unwrap().err(), Some(Refusal::Void));
    assert_eq!(ledger.spend(TokenId([9; 16]), now, |_| true).unwrap().err(), Some(Refusal::Unknown));
    assert!(ledger.spend(other.id, now, |_| true).unwrap().is_ok());
}

#[test]
fn a_token_lives_fifteen_minutes_on_a_clock_that_may_be_set() {
    let (_parent, path, ledger) = ledger();
    let identity = Identity::load_or_create(&path).unwrap();
    let token = issue(&path, &"a:1".parse().unwrap(), &identity).unwrap();
    let end = token.expires();
    for then in [end, end + Duration::from_secs(1), end - limits::PAIRING_LIFETIME - Duration::from_secs(60)]
    {
        assert_eq!(ledger.spend(token.id, then, |_| true).unwrap().err(), Some(Refusal::Unknown));
    }
    assert!(ledger.spend(token.id, end - Duration::from_secs(1), |_| true).unwrap().is_ok());
}

#[test]
fn of_many_spenders_exactly_one_wins() {
    let (_parent, path, _) = ledger();
    let identity = Identity::load_or_create(&path).unwrap();
    let token = issue(&path, &"a:1".parse().unwrap(), &identity).unwrap();
    let wins = thread::scope(|scope| {
        let spenders: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    let ledger = Ledger::new(PrivateDirectory::open_or_create(&path).unwrap());
                    ledger.spend(token.id, SystemTime::now(), |_| true).unwrap().is_ok()
                })
            })
            .collect();
        spenders.into_iter().filter_map(|spender| spender.join().ok()).filter(|won| *won).count()
    });
    assert_eq!(wins, 1);
}

#[test]
fn the_ledger_has_a_limit_and_forgets_the_dead() {
    let (_parent, path, ledger) = ledger();
    let identity = Identity::load_or_create(&path).unwrap();
    let key = token().key();
    let past = SystemTime::now() - limits::PAIRING_LIFETIME;
    for number in 0..64 {
        ledger.issue(TokenId([number; 16]), &key, unix_seconds(past) + 1, past).unwrap();
    }
    let full = ledger.issue(TokenId([99; 16]), &key, unix_seconds(past) + 1, past);
    assert!(matches!(full, Err(LedgerError::Full { .. })));
    assert!(issue(&path, &"a:1".parse().unwrap(), &identity).is_ok(), "all those have died since");
}

#[test]
fn a_damaged_ledger_is_an_error_and_no_token_is_taken() {
    let (_parent, path, ledger) = ledger();
    let identity = Identity::load_or_create(&path).unwrap();
    let token = issue(&path, &"a:1".parse().unwrap(), &identity).unwrap();
    std::fs::write(path.join("pairing.json"), "{").unwrap();
    assert!(matches!(
        ledger.spend(token.id, SystemTime::now(), |_| true),
        Err(LedgerError::Malformed { .. })
    ));
}
