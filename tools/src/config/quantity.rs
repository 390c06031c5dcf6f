//! Numbers as people write them: with their unit.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A size or a rate: `"64MiB"`, `"1G"` (powers of 1024), or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A span of time: `"5m"`, `"1h 30m"`, `"250ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A share in percent, more than nothing and no more than all: `"50%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u8);

const BYTES_FORM: &str = "a size such as \"64MiB\" or \"1G\"";
const SPAN_FORM: &str = "a span of time such as \"30s\" or \"5m\"";
const SHARE_FORM: &str = "a share from \"1%\" to \"100%\"";

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = parse_size::Config::new().with_binary().parse_size(text);
        parsed.map(Self).map_err(|error| format!("{text:?} is not {BYTES_FORM}: {error}"))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = humantime::parse_duration(text);
        parsed.map(Self).map_err(|error| format!("{text:?} is not {SPAN_FORM}: {error}"))
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits =
            text.strip_suffix('%').filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
        let share = digits.and_then(|digits| digits.parse().ok()).filter(|share| (1..=100).contains(share));
        share.map(Self).ok_or_else(|| format!("{text:?} is not {SHARE_FORM}"))
    }
}

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        indicatif::BinaryBytes(self.0).fmt(f)
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Display for Share {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Bytes;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str(BYTES_FORM)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }

            // TOML has no other whole numbers.
            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Bytes, E> {
                let known = u64::try_from(bytes).map(Bytes);
                known.map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// From text alone: a bare number has no unit.
macro_rules! written_as_text {
    ($quantity:ident, $form:expr) => {
        impl<'de> Deserialize<'de> for $quantity {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Form;
                impl Visitor<'_> for Form {
                    type Value = $quantity;

                    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                        f.write_str($form)
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$quantity, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Form)
            }
        }
    };
}

written_as_text!(Span, SPAN_FORM);
written_as_text!(Share, SHARE_FORM);

/// In JSON a size is a number of bytes.
impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// In JSON a span is written as it is read.
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// In JSON a share is written as it is read.
impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        let read = |value| from_value::<Bytes>(value).map(|bytes| bytes.0);
        assert_eq!(read(json!("64MiB")).expect("a size"), 64 << 20);
        assert_eq!(read(json!("1G")).expect("a size"), 1 << 30);
        assert_eq!(read(json!("512")).expect("a size"), 512);
        assert_eq!(read(json!(4096)).expect("a size"), 4096);
        for wrong in
            [json!("much"), json!("-1"), json!(-1), json!(""), json!("1X"), json!("99999999T"), json!(true)]
        {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_have_units() {
        let read = |value| from_value::<Span>(value).map(|span| span.0);
        assert_eq!(read(json!("5m")).expect("a span"), Duration::from_secs(300));
        assert_eq!(read(json!("1h 30m")).expect("a span"), Duration::from_secs(5400));
        assert_eq!(read(json!("250ms")).expect("a span"), Duration::from_millis(250));
        for wrong in
            [json!("5"), json!(5), json!("-5s"), json!(""), json!("5 parsecs"), json!("99999999999999999y")]
        {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_are_more_than_nothing() {
        let read = |value| from_value::<Share>(value).map(|share| share.0);
        assert_eq!((read(json!("1%")).expect("a share"), read(json!("100%")).expect("a share")), (1, 100));
        for wrong in
            [json!("0%"), json!("101%"), json!("50"), json!(50), json!("+5%"), json!("%"), json!("300%")]
        {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn they_are_written_as_they_are_read() {
        assert_eq!(Bytes(64 << 20).to_string(), "64.00 MiB");
        assert_eq!(Span(Duration::from_secs(5400)).to_string(), "1h 30m");
        assert_eq!(json!([Bytes(5), Span(Duration::from_secs(5)), Share(5)]), json!([5, "5s", "5%"]));
    }
}
