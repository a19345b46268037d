//! The part of the protobuf wire format that dag-pb and UnixFS use.
//!
//! Reading borrows from the input and allocates nothing.

use super::DagError;
use crate::varint;

/// One field as it stands on the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Value<'a> {
    pub(super) fn varint(self) -> Result<u64, DagError> {
        match self {
            Value::Varint(value) => Ok(value),
            _ => Err(WRONG_TYPE),
        }
    }

    pub(super) fn fixed32(self) -> Result<u32, DagError> {
        match self {
            Value::Fixed32(value) => Ok(value),
            _ => Err(WRONG_TYPE),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], DagError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WRONG_TYPE),
        }
    }
}

const WRONG_TYPE: DagError = DagError::Malformed("a field has the wrong wire type");
const CUT_SHORT: DagError = DagError::Malformed("a field is cut short");

/// Reads a message field by field, known ones and others alike.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), DagError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), DagError> {
        let key = varint::take(&mut self.0).ok_or(CUT_SHORT)?;
        let value = match key & 7 {
            0 => Value::Varint(varint::take(&mut self.0).ok_or(CUT_SHORT)?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = varint::take(&mut self.0).ok_or(CUT_SHORT)?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| CUT_SHORT)?)?)
            }
            5 => {
                let bytes = self.take(4)?.try_into().map_err(|_| CUT_SHORT)?;
                Value::Fixed32(u32::from_le_bytes(bytes))
            }
            _ => return Err(DagError::Malformed("a field has an unknown wire type")),
        };
        Ok((key >> 3, value))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DagError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(head)
    }
}

/// Appends a number field. Field numbers are below 16, so that the key is one byte.
pub(super) fn push_varint(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint::push(out, value);
}

/// Appends a bytes, string or message field.
pub(super) fn push_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint::push(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a 32-bit little-endian field.
pub(super) fn push_fixed32(out: &mut Vec<u8>, field: u8, value: u32) {
    out.push(field << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Length of a bytes field of this many bytes, its key and length included.
pub(super) fn bytes_field_len(length: u64) -> u64 {
    1_u64
        .saturating_add(varint::len(length))
        .saturating_add(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_skips_nothing() {
        let mut out = Vec::new();
        push_varint(&mut out, 1, 300);
        push_bytes(&mut out, 2, b"ab");
        push_fixed32(&mut out, 3, 7);
        assert_eq!(
            out,
            [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d, 7, 0, 0, 0]
        );
        assert_eq!(bytes_field_len(2), 4);
        let fields: Result<Vec<_>, _> = Fields(&out).collect();
        let expected = vec![
            (1, Value::Varint(300)),
            (2, Value::Bytes(b"ab")),
            (3, Value::Fixed32(7)),
        ];
        assert_eq!(fields, Ok(expected));
    }

    #[test]
    fn refuses_damage() {
        let check = |bytes: &[u8]| {
            let fields: Vec<_> = Fields(bytes).collect();
            assert!(matches!(fields[..], [Err(_)]), "{bytes:?}: {fields:?}");
        };
        check(&[0x08]);
        check(&[0x80]);
        check(&[0x09, 1, 2, 3]);
        check(&[0x12, 2, 0]);
        check(&[
            0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
        ]);
        check(&[0x0b]);
        check(&[0x0d, 0, 0]);
    }
}
