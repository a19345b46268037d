//! Unsigned LEB128 numbers, as multiformats and protobuf write them.

/// Appends the shortest form of a number.
pub(crate) fn push(out: &mut Vec<u8>, value: u64) {
    let mut rest = value;
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Length of the shortest form of a number: 1 to 10 bytes.
pub(crate) fn len(value: u64) -> u64 {
    // Seven bits a byte; zero takes one byte too.
    let bits = u64::BITS.saturating_sub((value | 1).leading_zeros());
    u64::from(bits.div_ceil(7))
}

/// Takes a number off the front, or nothing if it is cut short or does not fit 64 bits.
///
/// Longer forms than needed are accepted, as protobuf does, up to ten bytes.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits.leading_zeros() < shift {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_forms() {
        let check = |value: u64, bytes: &[u8]| {
            let mut out = Vec::new();
            push(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(len(value), bytes.len() as u64, "{value}");
            let mut rest = bytes;
            assert_eq!(take(&mut rest), Some(value));
            assert!(rest.is_empty());
        };
        check(0, &[0]);
        check(127, &[0x7f]);
        check(128, &[0x80, 1]);
        check(16_383, &[0xff, 0x7f]);
        check(16_384, &[0x80, 0x80, 1]);
        check(1 << 20, &[0x80, 0x80, 0x40]);
        check(
            u64::MAX,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        );
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let check = |mut bytes: &[u8], expected| assert_eq!(take(&mut bytes), expected);
        check(&[], None);
        check(&[0x80], None);
        check(&[0x80, 0], Some(0));
        check(
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            None,
        );
        check(&[0x80; 11], None);
    }
}
