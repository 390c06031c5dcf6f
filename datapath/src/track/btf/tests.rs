//! Types made by hand, the types of this machine, and rubbish.

use proptest::prelude::*;

use super::*;

/// Builds types: each is a name, a kind with its count, a reference, and words.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn text(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn add(&mut self, name: &str, kind: u32, count: u32, refers_to: u32, rest: &[u32]) {
        let name = self.text(name);
        for word in [name, kind << 24 | count, refers_to].iter().chain(rest) {
            self.types.extend(word.to_le_bytes());
        }
    }

    fn finish(self) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let mut all = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, length(&self.types), length(&self.types), length(&self.strings)] {
            all.extend(u32::to_le_bytes(word));
        }
        all.extend(self.types);
        all.extend(self.strings);
        all
    }
}

/// `struct request { int plain; union { struct { long deep; }; }; }`, and a
/// tracepoint `seen(void *, const struct request *)`.
fn sample() -> Vec<u8> {
    let mut builder = Builder::default();
    let (plain, deep, nameless) = (builder.text("plain"), builder.text("deep"), builder.text(""));
    builder.add("int", 1, 0, 4, &[32]); // 1
    builder.add("", STRUCTURE, 1, 8, &[deep, 1, 64]); // 2
    builder.add("", UNION, 1, 16, &[nameless, 2, 0]); // 3
    builder.add("request", STRUCTURE, 2, 24, &[plain, 1, 32, nameless, 3, 64]); // 4
    builder.add("", 10, 0, 4, &[]); // 5: const
    builder.add("", POINTER, 0, 5, &[]); // 6
    builder.add("", POINTER, 0, 0, &[]); // 7
    builder.add("", SIGNATURE, 2, 0, &[0, 7, 0, 6]); // 8
    builder.add("", POINTER, 0, 8, &[]); // 9
    builder.add("btf_trace_seen", TYPEDEF, 0, 9, &[]); // 10
    builder.add("btf_trace_data", TYPEDEF, 0, 1, &[]); // 11
    builder.finish()
}

#[test]
fn fields_are_found_also_in_what_has_no_name() {
    let bytes = sample();
    let types = Types::parse(&bytes).unwrap();
    assert_eq!(types.offset("request", "plain"), Ok(4));
    assert_eq!(types.offset("request", "deep"), Ok(16));
    let missing = types.offset("request", "absent").unwrap_err();
    assert_eq!(missing.to_string(), "the kernel's types have no field `absent` in `struct request`");
    assert!(types.offset("nothing", "plain").is_err());
}

#[test]
fn a_tracepoint_is_what_it_must_be() {
    let bytes = sample();
    let types = Types::parse(&bytes).unwrap();
    assert_eq!(types.expect_request_first("seen", 1), Ok(()));
    let told = |name, arguments| types.expect_request_first(name, arguments).unwrap_err().to_string();
    assert_eq!(told("seen", 2), "the kernel's tracepoint `seen` has other arguments (kernels before 5.11)");
    assert_eq!(told("data", 1), "the kernel's tracepoint `data` is no function");
    assert_eq!(told("gone", 1), "the kernel's tracepoint `gone` is not there");
}

#[test]
fn a_structure_that_holds_itself_ends() {
    let mut builder = Builder::default();
    let nameless = builder.text("");
    builder.add("request", STRUCTURE, 2, 8, &[nameless, 1, 0, nameless, 1, 0]);
    builder.add("loop", 10, 0, 2, &[]);
    let bytes = builder.finish();
    let types = Types::parse(&bytes).unwrap();
    assert!(types.offset("request", "plain").is_err() && types.follow(2).is_none());
}

#[test]
fn the_types_of_this_machine_have_what_is_needed() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
    let types = Types::parse(&bytes).unwrap();
    assert!(types.offset("request", "__sector").unwrap() > 0);
    assert!(types.expect_request_first("block_rq_issue", 1).is_ok());
    // Cut anywhere, it is an error or lacks something, never a panic.
    for length in (0..bytes.len()).step_by(bytes.len() / 20 + 1) {
        if let Ok(types) = Types::parse(&bytes[..length]) {
            let _ = types.offset("request", "__sector");
        }
    }
}

proptest! {
    #[test]
    fn rubbish_is_an_error_or_has_no_such_field(
        damage in prop::collection::vec((0_usize..400, any::<u8>()), 0..12),
        tail in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = sample();
        bytes.extend(tail);
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(types) = Types::parse(&bytes) {
            let _ = types.offset("request", "deep");
            let _ = types.expect_request_first("seen", 1);
        }
    }
}
